# SPDX-License-Identifier: Apache-2.0
# AVX-512 and matrix tiles: its kernels are those of avx512 but for the ones listed here (table.cpp).
set(ISA_RANK 40)
set(ISA_PROCESSORS x86_64 AMD64)
set(ISA_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mf16c -mamx-tile -mamx-bf16)
set(ISA_HEADERS <immintrin.h>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND ISA_FLAGS -Wno-maybe-uninitialized -Wno-uninitialized)  # as for avx512
endif()
set(ISA_REQUIRES avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512cd amx_tile amx_bf16)
set(ISA_KERNELS attention_split.cpp brgemm_split.cpp depthwise_bf16.cpp linear_split.cpp unary.cpp)
