# SPDX-License-Identifier: Apache-2.0
# Always built, on every processor: the fallback, and the folder to copy for a new ISA.
#   ISA_RANK        the best available ISA with the highest rank is used
#   ISA_PROCESSORS  values of CMAKE_SYSTEM_PROCESSOR that it is built for; empty for all
#   ISA_FLAGS       compiler flags of its sources
#   ISA_REQUIRES    features that core/cpu.cpp must see before it is used
#   ISA_KERNELS     the sources of csrc/kernels that it needs, for a folder that makes its table from another ISA's;
#                   all if it is not set
set(ISA_RANK 0)
set(ISA_PROCESSORS)
set(ISA_FLAGS)
set(ISA_REQUIRES)
