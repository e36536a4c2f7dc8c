// SPDX-License-Identifier: Apache-2.0
// The process's one team of worker threads. A job is one function that all members run once, with barriers of the
// team inside; there is one job, so one fork and one join, per inference.
#pragma once
#include <limits>

#include "barrier.hpp"

namespace forwardpass {

// Member 0 is the caller. `barrier` is for all members of this job.
using Job = void (*)(void* context, int member, Barrier& barrier) noexcept;

// Runs the job on `members` threads and returns true when all have finished. Returns false at once, having run
// nothing, if the team is busy with another caller's job: that caller runs its parts one after another instead, with
// the same result. The first call, and a call with more members than ever before, starts threads.
bool run_on_team(int members, Job job, void* context) noexcept;

// The most members that a program may ask for from now on, 1 or more; kNoThreadLimit without a limit. For the whole
// process, and for callers of any thread.
inline constexpr int kNoThreadLimit = std::numeric_limits<int>::max();
int thread_limit() noexcept;
void set_thread_limit(int most) noexcept;

// Starts the threads for jobs of so many members ahead of the first job. False if the system refuses them.
bool reserve_team(int members) noexcept;

}  // namespace forwardpass
