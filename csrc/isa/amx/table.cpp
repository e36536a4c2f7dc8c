// SPDX-License-Identifier: Apache-2.0
// The table of avx512, with the kernels on tiles in it.
#include "kernels.hpp"
#include "tiles.hpp"

namespace forwardpass::avx512 {

extern const KernelTable& table() noexcept;

}  // namespace forwardpass::avx512

namespace forwardpass::FORWARDPASS_ISA {

extern const KernelTable& table() noexcept;

namespace {

KernelTable make_table() noexcept {
  KernelTable t = avx512::table();
  t.isa = "amx";
  t.tiles = kHasTiles;
  t.kernels[kernel_brgemm_split_f32] = &brgemm_split_f32;
  t.kernels[kernel_attention_bf16] = &attention_bf16;
  t.kernels[kernel_depthwise_bf16] = &depthwise_bf16;
  t.kernels[kernel_linear_split_f32] = &linear_split_f32;
  return t;
}

}  // namespace

const KernelTable& table() noexcept {
  static const KernelTable made = make_table();
  return made;
}

}  // namespace forwardpass::FORWARDPASS_ISA
