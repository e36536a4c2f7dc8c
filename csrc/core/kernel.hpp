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

// Threads that work on the ranges of a step together (core/barrier.hpp).
class Convoy;

// What a kernel works on. `params` points at the struct that kernels.def names for the kernel.
struct KernelArgs {
  const void* in[kMaxInputs];
  void* out;
  const void* params;
  Fault* fault;
  std::int64_t step;
  Convoy* convoy = nullptr;  // of the threads that work together on other ranges at the same time

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

// A member of a convoy.
struct Turns {
  std::int64_t member;    // its Range::part
  std::int64_t most;      // nanoseconds that it would take to do the others' parts of a turn, about
  std::int64_t turn = 0;  // how many there were
  std::int64_t late = 0;  // of them, one after another, those for which it waited longer than that
  bool alone = false;
};

// Waits until all members have come here as often: after it a member sees what all others have written. False where
// another one does all the rest alone. One that is to do that has `all` as its `own` range from then on.
bool next_turn(Convoy& convoy, Turns& mine, Range& own, const Range& all) noexcept;

// A kernel is single-threaded over its range, writes only the outputs of that range, allocates nothing, and its
// result for one output does not depend on the range that the output is in. Indices that come from data are checked
// against the shapes, and reported. Only one that works together (below) waits for other ranges, and then reads what
// they have written.
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

// Whether the ranges of a kernel may wait for each other. Every thread then works on all of its ranges as one.
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
