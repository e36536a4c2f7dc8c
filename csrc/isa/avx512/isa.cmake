# SPDX-License-Identifier: Apache-2.0
set(ISA_RANK 20)
set(ISA_PROCESSORS x86_64 AMD64)
set(ISA_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mf16c -mpclmul)
set(ISA_HEADERS <immintrin.h>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC's own headers start many intrinsics from an undefined register and then warn about it (GCC bug 105593).
  list(APPEND ISA_FLAGS -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
set(ISA_REQUIRES avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512cd)
