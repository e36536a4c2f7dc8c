// SPDX-License-Identifier: Apache-2.0
#include "background.hpp"

#include <algorithm>
#include <system_error>

#include "program.hpp"

namespace forwardpass {

void Background::run(KernelFn fn, const KernelArgs& args, Range range) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back({fn, args, range});
  if (!thread_.joinable()) {
    try {
      last_ = false;
      thread_ = std::thread(&Background::work, this);
    } catch (const std::system_error&) {
      run_once(fn, args, range);
      ++begun_;
      ++done_;
      return;
    }
  }
  changed_.notify_one();
}

void Background::wait() noexcept {
  if (thread_.joinable()) {
    {
      std::unique_lock lock(mutex_);
      last_ = true;
      changed_.notify_one();
      while (begun_ < tasks_.size()) run_next(lock);
    }
    thread_.join();
  }
  tasks_.clear();
  begun_ = done_ = 0;
}

std::size_t Background::wait(std::size_t count) noexcept {
  std::unique_lock lock(mutex_);
  ran_.wait(lock, [&] { return done_ >= std::min(count, tasks_.size()); });
  return done_;
}

void Background::run_next(std::unique_lock<std::mutex>& lock) noexcept {
  const Task task = tasks_[begun_++];
  lock.unlock();
  run_once(task.fn, task.args, task.range);
  lock.lock();
  ++done_;
  ran_.notify_one();
}

void Background::work() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return begun_ < tasks_.size() || last_; });
    if (begun_ == tasks_.size()) return;
    run_next(lock);
  }
}

}  // namespace forwardpass
