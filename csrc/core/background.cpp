// SPDX-License-Identifier: Apache-2.0
#include "background.hpp"

#include <system_error>

#include "program.hpp"

namespace forwardpass {

void Background::run(KernelFn fn, const KernelArgs& args, Range range) {
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) {
    try {
      last_ = false;
      thread_ = std::thread(&Background::work, this);
    } catch (const std::system_error&) {
      run_once(fn, args, range);
      return;
    }
  }
  tasks_.push_back({fn, args, range});
  changed_.notify_one();
}

void Background::wait() noexcept {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    last_ = true;
  }
  changed_.notify_one();
  thread_.join();
  tasks_.clear();
}

void Background::work() noexcept {
  std::unique_lock lock(mutex_);
  for (std::size_t next = 0;; ++next) {
    changed_.wait(lock, [&] { return next < tasks_.size() || last_; });
    if (next == tasks_.size()) return;
    const Task task = tasks_[next];
    lock.unlock();
    run_once(task.fn, task.args, task.range);
    lock.lock();
  }
}

}  // namespace forwardpass
