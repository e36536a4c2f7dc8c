// SPDX-License-Identifier: Apache-2.0
// The contract between the tape (core/program.cpp) and the kernels (csrc/kernels), shared by every ISA.
#pragma once
#include <cstddef>
#include <cstdint>

namespace forwardpass {

inline constexpr int kMaxRank = 6;
inline constexpr int kMaxInputs = 7;
inline constexpr int kMaxTileRows = 16;

#define PARAMS_BEGIN(Name) struct Name {
#define PARAMS_END(Name) \
  }                      \
  ;
#define I64(name) std::int64_t name;
#define F32(name) float name;
#define DIMS(name) std::int64_t name[kMaxRank];
#define PTR(name) const void* name;
#include "../kernels/params.def"
#undef PARAMS_BEGIN
#undef PARAMS_END
#undef I64
#undef F32
#undef DIMS
#undef PTR

// What a run found wrong in the values themselves, such as an index that is out of range. Threads may race to set
// it; any of their findings will do.
struct Fault {
  std::int64_t step = 0;  // of the tape, counted from 1; 0 for none
  std::int64_t value = 0;
};

// Where the threads of a run wait for each other (core/team.hpp).
class Barrier;
void wait_at(Barrier& barrier) noexcept;

// What a kernel works on. `params` points at the struct that kernels.def names for the kernel.
struct KernelArgs {
  const void* in[kMaxInputs];
  void* out;
  const void* params;
  Fault* fault;
  std::int64_t step;
  Barrier* barrier = nullptr;  // of those that work on other parts at the same time, if there are any

  // Until all parts of a kernel that works together have come here as often.
  void wait() const noexcept {
    if (barrier) wait_at(*barrier);
  }
  void report(std::int64_t value) const noexcept {
    __atomic_store_n(&fault->value, value, __ATOMIC_RELAXED);
    __atomic_store_n(&fault->step, step, __ATOMIC_RELAXED);
  }
};

// A part of a kernel's work: [begin, end) in the units that params.def names.
struct Range {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t part = 0;  // which of the ranges that may run at the same time
};

// A kernel is single-threaded over its range, writes only the outputs of that range, allocates nothing, and its
// result for one output does not depend on the range that the output is in. Indices that come from data are checked
// against the shapes, and reported. Only one that works together (below) waits.
using KernelFn = void (*)(const KernelArgs& args, Range range) noexcept;

// An activation over n contiguous floats; in == out is allowed.
using RowFn = void (*)(const float* in, float* out, std::int64_t n, float alpha, float beta) noexcept;

// The activations of kernels/unary.def, in its order. kNone is no row of that list.
enum Activation : std::int64_t {
  kNone = -1,
#define UNARY(name, expression) k_##name,
#include "../kernels/unary.def"
#undef UNARY
  kActivationCount
};

// The element types of kernels/types.def, in its order.
enum ElementType : std::int64_t {
#define TYPE(name, T) k_type_##name,
#include "../kernels/types.def"
#undef TYPE
  kElementTypeCount
};

// The CRC-32 (IEEE 802.3) of bytes after others whose CRC-32 is `crc`; 0 for none.
using Crc32Fn = std::uint32_t (*)(const void* data, std::int64_t size, std::uint32_t crc) noexcept;

enum KernelId : int {
#define KERNEL(name, Params) kernel_##name,
#include "../kernels/kernels.def"
#undef KERNEL
  kKernelCount
};

// Most panels of B that a register tile of brgemm of 1, 2, ... rows spans; 0 where there is no such tile.
struct TilePanels {
  std::int64_t of[kMaxTileRows];
};

// Whether the parts of a kernel may wait for each other. Every thread then works on all of its ranges as one, and calls
// the kernel with an empty one where it has none.
constexpr bool works_together(int kernel) { return kernel == kernel_gru_f32 || kernel == kernel_lstm_f32; }

// Everything that one ISA level provides. One constant of this type per ISA (kernels/table.cpp).
struct KernelTable {
  const char* isa;
  std::int64_t panel;  // NR: columns of a packed panel of B
  TilePanels tile_panels;
  bool tiles;  // the CPU multiplies matrix tiles: brgemm_split_f32 is fast
  KernelFn kernels[kKernelCount];
  Crc32Fn crc32;  // see find_crc32
};

}  // namespace forwardpass
