// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include <algorithm>
#include <utility>

#include "flush.hpp"

namespace forwardpass {

namespace {

constexpr int kBroken = 3;                  // runs in which a convoy broke up, before the next ones try none
constexpr std::int64_t kRest = 50'000'000;  // for so many nanoseconds, and twice as many after each try that fails,
constexpr int kMostBroken = kBroken + 6;    // up to this one

// An address so many bytes further: of no array that it must stay in, since what is added to it follows.
const void* moved(const void* address, std::int64_t bytes) noexcept {
  return reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(address) + static_cast<std::uintptr_t>(bytes));
}

}  // namespace

Fault run_once(KernelFn fn, KernelArgs args, Range range) noexcept {
  const FlushDenormals flush;
  Fault fault;
  args.fault = &fault;
  args.step = 1;
  fn(args, range);
  return fault;
}

struct Program::Call {
  const Program* program;
  const Context* context;
  std::int64_t* nanoseconds;
  bool backwards;
  int members;  // of the team, each with as many parts as the others, or one more
};

Program::~Program() {
  if (entered_) arenas_->leave(arena_bytes_);
}

void Program::set_operand(KernelArgs& args, std::uint16_t operand, const void* address) {
  if (operand == kMaxInputs) {
    args.out = const_cast<void*>(address);
  } else {
    args.in[operand] = address;
  }
}

void Program::add_step(KernelFn fn, const void* params, const Operand (&in)[kMaxInputs], const Operand& out,
                       const std::vector<Range>& ranges, bool barrier, bool together) {
  const auto step = static_cast<std::uint32_t>(steps_.size());
  steps_.push_back({fn, barrier, together});
  if (together) together_.push_back(step);
  args_.push_back(KernelArgs{{}, nullptr, params, nullptr, step + 1});
  ranges_.insert(ranges_.end(), ranges.begin(), ranges.end());
  for (std::uint16_t i = 0; i <= kMaxInputs; ++i) {
    const Operand& operand = i == kMaxInputs ? out : in[i];
    switch (operand.kind) {
      case Operand::Kind::kNone:
        break;
      case Operand::Kind::kConstant:
        set_operand(args_.back(), i, static_cast<const std::byte*>(operand.constant) + operand.offset);
        break;
      case Operand::Kind::kArena:
        arena_patches_.push_back({step, i, operand});
        break;
      case Operand::Kind::kInput:
      case Operand::Kind::kOutput:
        call_patches_.push_back({step, i, operand});
        break;
    }
  }
}

void Program::copy_steps(const Program& other) {
  steps_ = other.steps_;
  together_ = other.together_;
  args_ = other.args_;
  ranges_ = other.ranges_;
  arena_patches_ = other.arena_patches_;
  call_patches_ = other.call_patches_;
  loops_ = other.loops_;
  shifts_ = other.shifts_;
}

void Program::add_loop(std::size_t first, std::int64_t begin, std::int64_t count, const std::vector<Shift>& shifts) {
  loops_.push_back({first, first + shifts.size(), begin, begin + count, shifts_.size()});
  shifts_.insert(shifts_.end(), shifts.begin(), shifts.end());
}

void Program::set_offset(std::size_t step, std::uint16_t operand, std::int64_t bytes) {
  for (auto* patches : {&arena_patches_, &call_patches_}) {
    const auto found = std::ranges::lower_bound(*patches, std::pair(step, operand), {}, [](const Patch& p) {
      return std::pair<std::size_t, std::uint16_t>(p.step, p.operand);
    });
    if (found != patches->end() && found->step == step && found->operand == operand) found->where.offset = bytes;
  }
}

std::unique_ptr<Program::Context> Program::make_context() const {
  auto context = std::make_unique<Context>(args_, std::vector<Convoy>(together_.size()), nullptr, Fault{});
  for (KernelArgs& args : context->args) args.fault = &context->fault;
  for (std::size_t i = 0; i < together_.size(); ++i) context->args[together_[i]].convoy = &context->convoys[i];
  return context;
}

void Program::finish(std::size_t arena_bytes) {
  if (entered_) return;
  arenas_->enter(arena_bytes);
  arena_bytes_ = arena_bytes;
  entered_ = true;
  contexts_.put(make_context());
  if (threads_ > 1) reserve_team(std::min(threads_, thread_limit()));
}

void Program::run_range(const Step& step, const KernelArgs& args, Range range, bool backwards) noexcept {
  if (step.backwards == 0 || !backwards) return step.fn(args, range);
  for (std::int64_t end = range.end; end > range.begin; end -= step.backwards) {
    step.fn(args, {std::max(range.begin, end - step.backwards), end, range.part});
  }
}

Range Program::joined(std::size_t step, int first, int last) const noexcept {
  const Range* ranges = ranges_.data() + step * static_cast<std::size_t>(threads_);
  Range all = {0, 0, first};
  for (int t = first; t < last; ++t) {
    if (ranges[t].begin >= ranges[t].end) continue;
    if (all.end == 0) all.begin = ranges[t].begin;
    all.end = ranges[t].end;
  }
  return all;
}

KernelArgs Program::shifted(KernelArgs args, const Shift& shift, std::int64_t times) noexcept {
  for (int i = 0; i < kMaxInputs; ++i) args.in[i] = moved(args.in[i], times * shift.in[i]);
  args.out = const_cast<void*>(moved(args.out, times * shift.out));
  return args;
}

void Program::run_step(const Call& call, std::size_t s, int first, int last) noexcept {
  const Program& program = *call.program;
  const Step& step = program.steps_[s];
  const KernelArgs& args = call.context->args[s];
  if (step.together) {
    const Range range = program.joined(s, first, last);
    if (range.begin < range.end) step.fn(args, range);
    return;
  }
  const Range* const ranges = program.ranges_.data() + s * static_cast<std::size_t>(program.threads_);
  for (int t = first; t < last; ++t) {
    if (ranges[t].begin < ranges[t].end) run_range(step, args, ranges[t], call.backwards);
  }
}

void Program::run_steps(const Call& call, int first, int last, Barrier* barrier) noexcept {
  const Program& program = *call.program;
  const FlushDenormals flush;
  const auto threads = static_cast<std::size_t>(program.threads_);
  std::int64_t* const times = first == 0 ? call.nanoseconds : nullptr;
  std::int64_t time = times ? now() : 0;
  const auto after = [&](std::size_t s, bool wait) {
    if (wait) barrier->wait();
    if (!times) return;
    const std::int64_t done = now();
    times[s] += done - time;
    time = done;
  };
  const auto run_plain = [&](std::size_t begin, std::size_t end) {
    for (std::size_t s = begin; s < end; ++s) {
      run_step(call, s, first, last);
      after(s, barrier && program.steps_[s].barrier);
    }
  };
  std::size_t begin = 0;
  for (const Loop& loop : program.loops_) {
    run_plain(begin, loop.first);
    for (std::int64_t i = loop.begin; i < loop.end; ++i) {
      for (std::size_t s = loop.first; s < loop.last; ++s) {
        const Shift& shift = program.shifts_[loop.shifts + s - loop.first];
        for (int t = first; t < last; ++t) {
          Range range = program.ranges_[s * threads + static_cast<std::size_t>(t)];
          if (range.begin >= range.end) continue;
          range.begin += i * shift.range;
          range.end += i * shift.range;
          program.steps_[s].fn(shifted(call.context->args[s], shift, i), range);
        }
        after(s, false);
      }
    }
    after(loop.last - 1, barrier && program.steps_[loop.last - 1].barrier);
    begin = loop.last;
  }
  run_plain(begin, program.steps_.size());
}

void Program::work(void* context, int member, Barrier& barrier) noexcept {
  const Call& call = *static_cast<const Call*>(context);
  const Program& program = *call.program;
  run_steps(call, program.first_of(member, call.members), program.first_of(member + 1, call.members), &barrier);
}

void Program::gather(Context& context, int members) const noexcept {
  for (std::size_t i = 0; i < together_.size(); ++i) {
    int working = 0;
    for (int m = 0; m < members; ++m) {
      const Range range = joined(together_[i], first_of(m, members), first_of(m + 1, members));
      working += range.begin < range.end;
    }
    context.convoys[i].reset(working);
  }
}

void Program::share(Call& call, Context& context) const noexcept {
  const bool rests =
      broken_.load(std::memory_order_relaxed) >= kBroken && now() < rests_.load(std::memory_order_relaxed);
  if (call.members > 1 && !rests) {
    gather(context, call.members);
    if (run_on_team(call.members, &Program::work, &call)) return look_back(context);
  }
  gather(context, 1);
  run_steps(call, 0, threads_, nullptr);
}

void Program::look_back(const Context& context) const noexcept {
  if (together_.empty()) return;
  int broken = 0;
  if (std::ranges::any_of(context.convoys, &Convoy::broken)) {
    broken = std::min(broken_.load(std::memory_order_relaxed) + 1, kMostBroken);
    if (broken >= kBroken) rests_.store(now() + (kRest << (broken - kBroken)), std::memory_order_relaxed);
  }
  broken_.store(broken, std::memory_order_relaxed);
}

Fault Program::run_with(const void* const* inputs, void* const* outputs, std::int64_t* nanoseconds) const {
  std::unique_ptr<Context> context = contexts_.take();
  if (!context) context = make_context();
  std::unique_ptr<Arena> arena = arenas_->acquire(arena_bytes_);
  if (arena && context->base != arena->data()) {
    context->base = arena->data();
    for (const Patch& p : arena_patches_) {
      set_operand(context->args[p.step], p.operand, context->base + p.where.offset);
    }
  }
  for (const Patch& p : call_patches_) {
    const void* base = p.where.kind == Operand::Kind::kInput ? inputs[p.where.index] : outputs[p.where.index];
    set_operand(context->args[p.step], p.operand, static_cast<const std::byte*>(base) + p.where.offset);
  }
  // Under a limit a member does the parts of several: which thread does a part never changes its result.
  const int members = std::min(threads_, thread_limit());
  const bool backwards = runs_.fetch_add(1, std::memory_order_relaxed) % 2 != 0;
  Call call{this, context.get(), nanoseconds, backwards, members};
  share(call, *context);
  const Fault fault = context->fault;
  if (fault.step != 0) context->fault = {};
  contexts_.put(std::move(context));
  arenas_->release(std::move(arena));
  return fault;
}

Fault Program::run(const void* const* inputs, void* const* outputs) const { return run_with(inputs, outputs, nullptr); }

Fault Program::run_profiled(const void* const* inputs, void* const* outputs, std::int64_t* nanoseconds) const {
  return run_with(inputs, outputs, nanoseconds);
}

}  // namespace forwardpass
