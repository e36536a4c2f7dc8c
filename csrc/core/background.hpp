// SPDX-License-Identifier: Apache-2.0
// Kernels that run one after another on a thread of their own, while their owner does something else: weights are
// packed while the plan that reads them is made.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "kernel.hpp"

namespace forwardpass {

class Background {
 public:
  Background() = default;
  ~Background() { wait(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // The kernel runs soon, or now where the system gives no thread. What `args` points at stays there until `wait`.
  void run(KernelFn fn, const KernelArgs& args, Range range);

  // Returns when all of them have run. The caller runs some of those that have not begun.
  void wait() noexcept;

  // Returns when the first `count` have run; how many have run since the last `wait` for all.
  std::size_t wait(std::size_t count) noexcept;

 private:
  struct Task {
    KernelFn fn;
    KernelArgs args;
    Range range;
  };

  void work() noexcept;
  void run_next(std::unique_lock<std::mutex>& lock) noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ran_;
  std::vector<Task> tasks_;
  std::size_t begun_ = 0;
  std::size_t done_ = 0;  // the first ones, before `wait` for all
  bool last_ = false;
  std::thread thread_;
};

}  // namespace forwardpass
