// SPDX-License-Identifier: Apache-2.0
// The tape: kernels with their arguments and work ranges, in order, made once per plan and run many times. A run
// resolves the caller's addresses, then calls function pointers; it allocates nothing.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arenas.hpp"
#include "barrier.hpp"
#include "kernel.hpp"
#include "slots.hpp"
#include "team.hpp"
#include "tensor.hpp"

namespace forwardpass {

// Where an operand of a step lives.
struct Operand {
  enum class Kind : std::uint8_t { kNone, kArena, kConstant, kInput, kOutput };
  Kind kind = Kind::kNone;
  std::uint32_t index = 0;  // of the input or output
  std::int64_t offset = 0;  // in bytes
  const void* constant = nullptr;
};

// How much further a step of a loop works at each time: in units of its range, and in bytes.
struct Shift {
  std::int64_t range = 0;
  std::int64_t in[kMaxInputs] = {};
  std::int64_t out = 0;
};

// An input or output: dense values in C order. `view.data` is null, since every run brings its own.
struct TensorInfo {
  std::string name;
  TensorView view;
};

// Calls one kernel with denormals flushed, as a run does. Returns what it found wrong.
Fault run_once(KernelFn fn, KernelArgs args, Range range) noexcept;

class Program {
 public:
  // The memory for intermediate values is that of `arenas`, which other programs may share, or of its own.
  explicit Program(int threads, std::shared_ptr<Arenas> arenas = nullptr)
      : threads_(threads), arenas_(arenas ? std::move(arenas) : std::make_shared<Arenas>()) {}
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // ---- building, by one thread, before the first run
  void add_input(TensorInfo info) { inputs_.push_back(std::move(info)); }
  void add_output(TensorInfo info) { outputs_.push_back(std::move(info)); }
  // `params` must live as long as the program. `ranges` has one range per thread; `barrier` says that all threads
  // wait after this step, `together` that its ranges may wait for each other: then they lie side by side.
  void add_step(KernelFn fn, const void* params, const Operand (&in)[kMaxInputs], const Operand& out,
                const std::vector<Range>& ranges, bool barrier, bool together = false);
  // The same kernel with the same parameters as an earlier step, on other operands and ranges.
  void add_slice(std::size_t like, const Operand (&in)[kMaxInputs], const Operand& out,
                 const std::vector<Range>& ranges, bool barrier) {
    add_step(steps_[like].fn, args_[like].params, in, out, ranges, barrier, steps_[like].together);
  }
  // Let steps from `first` on, one for each shift, run `count` times by turns, counted from `begin`: at time i each on
  // ranges and addresses that are i shifts further. A barrier after the last one is waited at after all times; the
  // others have none, none goes backwards and none works together. Loops come in the order of their steps.
  void add_loop(std::size_t first, std::int64_t begin, std::int64_t count, const std::vector<Shift>& shifts);
  void set_loop(std::size_t loop, std::int64_t begin, std::int64_t count) {
    loops_[loop].begin = begin;
    loops_[loop].end = begin + count;
  }
  // The steps of another program, to be changed by what follows.
  void copy_steps(const Program& other);
  void set_params(std::size_t step, const void* params) { args_[step].params = params; }
  void set_range(std::size_t step, int thread, const Range& range) {
    ranges_[step * static_cast<std::size_t>(threads_) + static_cast<std::size_t>(thread)] = range;
  }
  void set_barrier(std::size_t step, bool barrier) { steps_[step].barrier = barrier; }
  // Let every second run do the step's ranges from their ends, so many units at a time: what it read last, the caches
  // still hold.
  void alternate(std::size_t step, std::int64_t units) { steps_[step].backwards = units; }
  // Of an operand that is there already; `operand` is kMaxInputs for the output.
  void set_offset(std::size_t step, std::uint16_t operand, std::int64_t bytes);
  void set_constant(std::size_t step, std::uint16_t operand, const void* address) {
    set_operand(args_[step], operand, address);
  }
  // Allocates the first context and starts the team's threads. Throws std::bad_alloc.
  void finish(std::size_t arena_bytes);

  // ---- running, by any number of threads
  // The outputs are undefined where a fault is returned.
  Fault run(const void* const* inputs, void* const* outputs) const;
  // As run, and adds the nanoseconds of each step, as the first thread saw them, to `nanoseconds`.
  Fault run_profiled(const void* const* inputs, void* const* outputs, std::int64_t* nanoseconds) const;

  int threads() const { return threads_; }
  std::size_t steps() const { return steps_.size(); }
  std::size_t loops() const { return loops_.size(); }
  std::size_t arena_bytes() const { return arena_bytes_; }
  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }

 private:
  struct Step {
    KernelFn fn;
    bool barrier;
    bool together;
    std::int64_t backwards = 0;
  };
  // An operand whose address is known per context (arena) or per run (inputs and outputs).
  struct Patch {
    std::uint32_t step;
    std::uint16_t operand;  // index into KernelArgs::in, or kMaxInputs for out
    Operand where;
  };
  struct Loop {
    std::size_t first, last;  // steps, `last` excluded
    std::int64_t begin, end;
    std::size_t shifts;  // where those of its steps begin
  };
  struct Context {
    std::vector<KernelArgs> args;
    std::vector<Convoy> convoys;  // of the steps that are together
    const std::byte* base;        // of the arena whose addresses are in `args`
    Fault fault;
  };
  struct Call;

  static void set_operand(KernelArgs& args, std::uint16_t operand, const void* address);
  // The parts of threads first .. last - 1 of every step; without a barrier, one thread does all parts in order.
  static void run_steps(const Call& call, int first, int last, Barrier* barrier) noexcept;
  static void run_step(const Call& call, std::size_t s, int first, int last) noexcept;
  static KernelArgs shifted(KernelArgs args, const Shift& shift, std::int64_t times) noexcept;
  static void run_range(const Step& step, const KernelArgs& args, Range range, bool backwards) noexcept;
  // The ranges of threads first .. last - 1 as one.
  Range joined(std::size_t step, int first, int last) const noexcept;
  // The first of the threads whose parts a member of the team does.
  int first_of(int member, int members) const noexcept { return threads_ * member / members; }
  static void work(void* context, int member, Barrier& barrier) noexcept;
  // Tells the convoys how many members have work.
  void gather(Context& context, int members) const noexcept;
  // Runs all steps, on the team where it is free and its convoys hold.
  void share(Call& call, Context& context) const noexcept;
  // After a run on the team: whether the next ones should try.
  void look_back(const Context& context) const noexcept;
  std::unique_ptr<Context> make_context() const;
  Fault run_with(const void* const* inputs, void* const* outputs, std::int64_t* nanoseconds) const;

  int threads_;
  std::shared_ptr<Arenas> arenas_;
  std::size_t arena_bytes_ = 0;
  bool entered_ = false;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
  std::vector<Step> steps_;
  std::vector<std::size_t> together_;  // steps
  std::vector<KernelArgs> args_;
  std::vector<Range> ranges_;  // threads_ per step
  std::vector<Patch> arena_patches_;
  std::vector<Patch> call_patches_;
  std::vector<Loop> loops_;
  std::vector<Shift> shifts_;
  mutable Slots<Context> contexts_;
  mutable std::atomic<std::uint32_t> runs_{0};
  mutable std::atomic<int> broken_{0};          // runs, one after another, in which a convoy broke up
  mutable std::atomic<std::int64_t> rests_{0};  // after too many of them: the time of the next try
};

}  // namespace forwardpass
