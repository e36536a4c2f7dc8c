// SPDX-License-Identifier: Apache-2.0
// The only file that mentions OpenMP. The workers are the threads of one parallel region, which a leader thread of
// our own opens and which stays open: OpenMP keeps its pool per opening thread, so after a fork the child forgets
// the leader and opens a new region in a new one, where libgomp would wait for ever for threads that fork did not
// copy. Jobs and barriers are ours: OpenMP's cost several times as much and cannot be left early.
#include "team.hpp"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <climits>
#include <new>

namespace forwardpass {

namespace {

constexpr int kSeats = 64;                     // members whose processors are known
constexpr std::int64_t kWaited = 500'000;      // nanoseconds without a processor that tell that others want it
constexpr std::int64_t kRest = 1'000'000'000;  // nanoseconds without a move after that

#if defined(__linux__)
inline std::int64_t own_time() noexcept {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// How often this thread had to give its processor to another one, though it did not wait for anything.
inline std::int64_t times_taken() noexcept {
  rusage used{};
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_nivcsw;
}
#endif

// Where a member was at its last job, and where it may be.
struct alignas(64) Seat {
  std::atomic<int> processor{-1};
#if defined(__linux__)
  cpu_set_t allowed;  // by others than us
  cpu_set_t chosen;
  bool moved = false;
  std::int64_t rests = 0;  // until then it stays where the system puts it
#endif
};

struct Team {
  std::atomic<bool> busy{false};
  std::atomic<std::uint32_t> ticket{0};  // each increment is one job or the dismissal
  std::atomic<std::uint32_t> finished{0};
  Barrier barrier;
  Job job = nullptr;
  void* context = nullptr;
  int members = 0;     // of the present job
  int workers = 0;     // threads that the open region has
  int most = INT_MAX;  // threads that OpenMP gives, once it has given fewer than it was asked for
  bool dismiss = false;
  pthread_t leader{};
  std::atomic<std::uint32_t> ready{0};
  std::atomic<std::uint32_t> granted{0};  // threads that OpenMP really gave; written before the first `ready`
  Seat seats[kSeats];

  // The system may leave a member on the processor of another one for seconds though others are idle: they take turns
  // by sched_yield, and neither looks like waiting. So a member that finds itself there moves, and then keeps away:
  // when it is woken the next time, the system would put it back.
  void sit(int member) noexcept {
#if defined(__linux__)
    if (member >= kSeats) return;
    const int processor = sched_getcpu();
    seats[member].processor.store(processor, std::memory_order_relaxed);
    for (int other = 0; other < member; ++other) {
      if (seats[other].processor.load(std::memory_order_relaxed) == processor) return move(seats[member]);
    }
#else
    static_cast<void>(member);
#endif
  }

#if defined(__linux__)
  // To a processor that no member is on, if there is one that this thread may use.
  void move(Seat& seat) noexcept {
    cpu_set_t found;
    if (sched_getaffinity(0, sizeof found, &found) != 0) return;
    if (!seat.moved || !CPU_EQUAL(&found, &seat.chosen)) seat.allowed = found;  // somebody else has set it since
    seat.chosen = seat.allowed;
    for (int other = 0; other < members && other < kSeats; ++other) {
      const int taken = seats[other].processor.load(std::memory_order_relaxed);
      if (taken >= 0 && taken < CPU_SETSIZE) CPU_CLR(taken, &seat.chosen);
    }
    const std::int64_t before = now();
    if (before < seat.rests) return;
    seat.moved = CPU_COUNT(&seat.chosen) > 0 && sched_setaffinity(0, sizeof found, &seat.chosen) == 0;
    if (!seat.moved) return;
    seat.processor.store(sched_getcpu(), std::memory_order_relaxed);
    if (now() - before > kWaited) leave(seat);
  }

  // The place is somebody else's too, who takes it for longer than the caller would: anywhere, for a while.
  void leave(Seat& seat) noexcept {
    sched_setaffinity(0, sizeof seat.allowed, &seat.allowed);
    seat.moved = false;
    seat.rests = now() + kRest;
  }

  // The job of a member that has moved; leaves its place if others took the processor from it for long.
  void work_apart(int member) noexcept {
    Seat& seat = seats[member];
    const std::int64_t wall = now(), own = own_time();
    const std::int64_t taken = times_taken();
    job(context, member, barrier);
    const std::int64_t passed = now() - wall;
    if (passed <= kWaited || times_taken() == taken) return;
    if (passed - (own_time() - own) > kWaited) leave(seat);
  }
#endif

  void work(int member) noexcept {
    std::uint32_t seen = 0;
    for (;;) {
      wait_while(ticket, seen);
      ++seen;
      const auto all = static_cast<std::uint32_t>(workers);
      const bool dismissed = dismiss;
      if (!dismissed && member < members) {
        sit(member);
#if defined(__linux__)
        if (member < kSeats && seats[member].moved) {
          work_apart(member);
        } else
#endif
          job(context, member, barrier);
      }
      // All workers report, so that none can still be reading this job when the next one is written.
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 == all) finished.notify_one();
      if (dismissed) return;
    }
  }

  void announce() noexcept {
    finished.store(0, std::memory_order_relaxed);
    ticket.fetch_add(1, std::memory_order_release);
    ticket.notify_all();
  }

  void await_workers() noexcept {
    for (;;) {
      const std::uint32_t done = finished.load(std::memory_order_acquire);
      if (done == static_cast<std::uint32_t>(workers)) return;
      wait_while(finished, done);
    }
  }

  bool start(int count) noexcept;
  void stop() noexcept;
};

// Never destroyed: the workers sleep in it until the process ends. A forked child gets a new one.
std::atomic<Team*> the_team{nullptr};

void* lead(void* argument) {
  Team* team = static_cast<Team*>(argument);
  const int workers = team->workers;
#pragma omp parallel num_threads(workers)
  {
#pragma omp single
    team->granted.store(static_cast<std::uint32_t>(omp_get_num_threads()), std::memory_order_relaxed);
    const std::uint32_t member = team->ready.fetch_add(1, std::memory_order_acq_rel) + 1;
    team->ready.notify_all();
    team->work(static_cast<int>(member));
  }
  return nullptr;
}

bool Team::start(int count) noexcept {
  workers = count;
  dismiss = false;
  ready.store(0, std::memory_order_relaxed);
  ticket.store(0, std::memory_order_relaxed);
  if (pthread_create(&leader, nullptr, &lead, this) != 0) {
    workers = 0;
    return false;
  }
  for (;;) {
    const std::uint32_t started = ready.load(std::memory_order_acquire);
    if (started != 0 && started == granted.load(std::memory_order_relaxed)) break;
    ready.wait(started, std::memory_order_acquire);
  }
  workers = static_cast<int>(granted.load(std::memory_order_relaxed));
  if (workers < count) most = workers;
  return workers == count;
}

void Team::stop() noexcept {
  if (workers == 0) return;
  dismiss = true;
  announce();
  await_workers();
  pthread_join(leader, nullptr);
  workers = 0;
}

void forget_after_fork() { the_team.store(nullptr, std::memory_order_release); }

Team* get_team() noexcept {
  Team* team = the_team.load(std::memory_order_acquire);
  if (team != nullptr) return team;
  static const bool registered = (pthread_atfork(nullptr, nullptr, &forget_after_fork), true);
  static_cast<void>(registered);
  Team* made = new (std::nothrow) Team;
  if (made == nullptr) return nullptr;
  if (the_team.compare_exchange_strong(team, made, std::memory_order_acq_rel)) return made;
  delete made;
  return team;
}

bool ensure(Team& team, int members) noexcept {
  if (members - 1 <= team.workers) return true;
  if (members - 1 > team.most) return false;  // as before: a new region would be as small
  team.stop();
  return team.start(members - 1);
}

std::atomic<int> the_limit{kNoThreadLimit};

}  // namespace

int thread_limit() noexcept { return the_limit.load(std::memory_order_relaxed); }

void set_thread_limit(int most) noexcept { the_limit.store(std::max(most, 1), std::memory_order_relaxed); }

bool run_on_team(int members, Job job, void* context) noexcept {
  Team* team = get_team();
  if (team == nullptr || team->busy.exchange(true, std::memory_order_acquire)) return false;
  const bool ready = ensure(*team, members);
  if (ready) {
    team->job = job;
    team->context = context;
    team->members = members;
    team->barrier.reset(static_cast<std::uint32_t>(members));
    team->sit(0);
    team->announce();
    job(context, 0, team->barrier);
    team->await_workers();
  }
  team->busy.store(false, std::memory_order_release);
  return ready;
}

bool reserve_team(int members) noexcept {
  if (members <= 1) return true;
  Team* team = get_team();
  if (team == nullptr || team->busy.exchange(true, std::memory_order_acquire)) return false;
  const bool ready = ensure(*team, members);
  team->busy.store(false, std::memory_order_release);
  return ready;
}

}  // namespace forwardpass
