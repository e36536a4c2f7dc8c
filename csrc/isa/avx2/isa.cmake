# SPDX-License-Identifier: Apache-2.0
set(ISA_RANK 10)
set(ISA_PROCESSORS x86_64 AMD64)
set(ISA_FLAGS -mavx2 -mfma -mf16c -mpclmul)
set(ISA_HEADERS <immintrin.h>)
set(ISA_REQUIRES avx2 fma f16c)
