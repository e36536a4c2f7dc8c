// SPDX-License-Identifier: Apache-2.0
// brgemm_split_f32: brgemm on matrix tiles, both operands split in terms of bfloat16 (terms.hpp). Of the products of
// terms those that count in float32 are summed, smallest first: six of three terms, three of two, one of one.
//
// A sum that is not finite is not trusted: the terms of an infinity or NaN multiply to other things than it does, and
// a term can overflow where the number would not. It is computed again in float32 from the sums of the terms, in the
// order of brgemm_f32. Infinities and NaN stay in a sum, so none is missed.
#include "brgemm_split_beside.hpp"
#include "brgemm_split_spread.hpp"
#include "cursor.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Of weights that stay in L2, so that nothing needs to fetch them ahead.
constexpr std::int64_t kResidentWords = 512 * 1024 / 4;

// Steps whose weights of two panels stay in L1 while pixels pass by. Three or six products of a step hide what their
// operands take from L2.
template <int kTerms>
constexpr std::int64_t kL1Steps = kTerms == 1 ? 16 : 1 << 30;

// Steps of 0.3 us.
template <int kTerms>
constexpr std::int64_t kAwakeSteps = kTerms == 3 ? 2 : 4;

// Whether products of so many tiles of sums have the rows of the block before spread among them.
template <int kTerms, int kTiles>
constexpr bool kSpreads = kHasTiles && kTerms == 3 && kTiles == 4;

// A part of the steps of a chunk.
struct Turn {
  Range steps;
  Range chunk;
  bool first, last;  // of the chunk
};

struct Loops : Finish {
  const std::uint32_t* a;
  const float* residual;
  float* c;
  std::uint32_t* made;
  std::int64_t tiles_per_row;
  Tiles& tiles;
  float* saved;  // sums of parts of a chunk, by four tiles

  Rows rows_at(const Cursor<BrgemmSplitParams>& at) const {
    const std::int64_t y = at.position() < p.span ? 0 : at.position() / p.span;
    return {a + at.a(),
            residual ? residual + at.batch() * p.r_batch + (at.row() + y) * p.r_row : nullptr,
            c + at.batch() * p.c_batch + (at.row() + y) * p.c_row,
            made ? made + at.batch() * p.made_batch + (at.row() + y) * p.made_row : nullptr,
            at.position() - y * p.span,
            at.rows()};
  }

  // The sums of the block's tiles over a part of a chunk, and beside them those of the block before into C.
  template <int kTerms, int kM, int kN, class Next>
  void multiply(Block& now, Block& before, const Turn& turn, float* saved, Next& next) const {
    const std::int64_t a_col = p.a_col;
    const std::uint32_t* b0 = weights<kTerms>(now.panel, turn.steps.begin);
    const std::uint32_t* b1 = b0 + b_panel();
    const std::int64_t start = start_of(now.panel).offset;
    const std::uint32_t *a0 = now.rows[0].a + start, *a1 = now.rows[kM - 1].a + start;
    const Step* const end = steps() + turn.steps.end;
    for (int m = 0; turn.last && m < kM; ++m) fetch_results(now.rows[m], now.panel, kN);
    if (turn.first) {
      clear_sums<kM * kN>(tiles);
    } else {
      load_sums<kM * kN>(tiles, saved);
    }
    if constexpr (Next::kBeside) {
      const Step* s = steps() + turn.steps.begin;
      for (std::int64_t i = 0; s != end; ++s, ++i) {
        if (i % kAwakeSteps<kTerms> == 0) tiles.keep_storing();
        b0 = next.begin_step(i);
        b1 = b0 + kStepWords / 2;
        multiply_step<kTerms, kM, kN>(tiles, a0 + s->offset, a1 + s->offset, a_col, b0, b1, next);
        finish_next<kTerms>(before);
      }
    } else if constexpr (kTerms == 1) {
      // As many parts as a block has tiles, the longer ones first.
      const Step* at = steps() + turn.steps.begin;
      for (int left = 4; left > 0; --left) {
        const std::int64_t count = (end - at + left - 1) / left;
        if (left == 2 && count) tiles.keep_storing();
        if (count) multiply_steps<kM, kN>(tiles, a0, a1, a_col, b0, b1, at, count, next);
        at += count;
        b0 += count * kTileWords;
        b1 += count * kTileWords;
        finish_next<kTerms>(before);
      }
    } else if (!(kSpreads<kTerms, kM * kN> && spreads(*this, before))) {
      for (const Step* s = steps() + turn.steps.begin; s != end; ++s) {
        if ((s - steps()) % kAwakeSteps<kTerms> == 0) tiles.keep_storing();
        multiply_step<kTerms, kM, kN>(tiles, a0 + s->offset, a1 + s->offset, a_col, b0, b1, next);
        b0 += kTerms * kTileWords;
        b1 += kTerms * kTileWords;
        finish_next<kTerms>(before);
      }
    } else if constexpr (kSpreads<kTerms, kM * kN>) {
      multiply_spread(now, before, turn, next);
    }
    if (!turn.last) return store_sums<kM * kN>(tiles, saved);
    finish_all<kTerms>(before);
    store_sums<kM * kN>(tiles, now.sums[0]);
    now.count = kM * kN;
    now.done = 0;
    now.panels = kN;
    now.first = turn.chunk.begin == 0;
    now.last = turn.chunk.end == p.n_steps;
  }

  // The steps of `multiply`, with all of the block before among them.
  void multiply_spread(Block& now, Block& before, const Turn& turn, Ahead& next) const {
    const bool adds = before.last && before.rows[0].residual;
    if (p.makes == 0 && before.first) {
      adds ? steps_and(now, before, turn, next, SpreadResults<false, true>(*this, before))
           : steps_and(now, before, turn, next, SpreadResults<false, false>(*this, before));
    } else if (p.makes == 0) {
      adds ? steps_and(now, before, turn, next, SpreadResults<true, true>(*this, before))
           : steps_and(now, before, turn, next, SpreadResults<true, false>(*this, before));
    } else if (p.activation == k_gelu) {
      const auto act = [](Vec x) __attribute__((always_inline)) { return near_gelu(x); };
      steps_and(now, before, turn, next, SpreadJoin<3, decltype(act)>(*this, before, act));
    } else {
      const auto act = [most = Bounds(p, kInf)](Vec x) __attribute__((always_inline)) { return most.apply(x); };
      steps_and(now, before, turn, next, SpreadJoin<3, decltype(act)>(*this, before, act));
    }
  }

  template <class Rest>
  [[gnu::noinline]] void steps_and(const Block& now, Block& before, const Turn& turn, Ahead& ahead, Rest of) const {
    const std::int64_t a_col = p.a_col;
    const std::uint32_t* b0 = weights<3>(now.panel, turn.steps.begin);
    const std::uint32_t* b1 = b0 + b_panel();
    const std::int64_t start = start_of(now.panel).offset;
    const std::uint32_t *a0 = now.rows[0].a + start, *a1 = now.rows[1].a + start;
    const Step* const end = steps() + turn.steps.end;
    Ahead next = ahead;
    Rest rest = of;
    Spread<Rest> both{next, rest};
    for (const Step* s = steps() + turn.steps.begin; s != end; ++s) {
      if ((s - steps()) % kAwakeSteps<3> == 0) tiles.keep_storing();
      multiply_step<3, 2, 2>(tiles, a0 + s->offset, a1 + s->offset, a_col, b0, b1, both);
      b0 += 3 * kTileWords;
      b1 += 3 * kTileWords;
    }
    while (!rest.done()) rest.step();
    if (rest.finite()) before.done = before.count;
    ahead = next;
  }

  // The memory that a tile's results go to, and what is added to them, on their way into L2 while it multiplies.
  // Where the tile goes on in the next row of the output, this misses, and nothing more.
  void fetch_results(const Rows& rows, std::int64_t panel, int panels) const {
    if constexpr (!kHasTiles) return;
    const bool residual = rows.residual != nullptr;
    if ((p.makes == kInstead && !residual) || past.on) return;
    for (int n = 0; n < panels; ++n) {
      const float* c = rows.c + rows.x * p.c_col + (panel + n) * kPairs;
      for (int i = 0; p.makes != kInstead && i < rows.count; ++i) __builtin_prefetch(c + i * p.c_col, 0, 2);
      if (!residual || (p.r_block && n)) continue;  // two panels share a block's lines
      const float* r = rows.residual + rows.x * p.r_col + residual_at(panel + n);
      for (int i = 0; i < rows.count; ++i) __builtin_prefetch(r + i * p.r_col, 0, 2);
    }
  }

  // Tiles of pixels in parts that stay in L2, with all panels, chunk by chunk.
  template <int kTerms>
  void run(Range range, Range panels) const {
    Block blocks[2];
    const bool whole = min_of(p.n_steps, p.chunk_steps) <= kL1Steps<kTerms>;
    const std::int64_t tiles_of_part = whole ? p.block : min_of(p.block, kSavedTiles);
    for (std::int64_t first = range.begin; first < range.end; first += tiles_of_part) {
      const Range part = {first, min_of(range.end, first + tiles_of_part)};
      Cursor<BrgemmSplitParams> at(p, tiles_per_row, first);
      Rows known[2] = {rows_at(at)};
      if (part.end - first == 2) {
        at.next();
        known[1] = rows_at(at);
        known[1].place = 1;
      }
      for (std::int64_t k = 0; k < p.n_steps; k += p.chunk_steps) {
        const Range chunk = {k, min_of(p.n_steps, k + p.chunk_steps)};
        for (std::int64_t panel = panels.begin; panel < panels.end; panel += 2) {
          Ahead next = ahead<kTerms>(part, panels, chunk, panel + 2);
          if (panel + 1 < panels.end) {
            run_chunk<kTerms, 2>(part, known, panel, chunk, blocks, next);
          } else {
            run_chunk<kTerms, 1>(part, known, panel, chunk, blocks, next);
          }
        }
      }
    }
    for (Block& block : blocks) finish_all<kTerms>(block);
  }

  // As run, where weights are float32: for each two panels their steps one after another.
  void run_beside(Range range, Range panels) const {
    Block blocks[2];
    for (std::int64_t first = range.begin; first < range.end; first += kFloatTiles) {
      const Range part = {first, min_of(range.end, first + kFloatTiles)};
      Beside next(b, b_panel());
      Place now = place(panels.begin, 0, panels);
      next.split(now);
      while (now.count > 0) {
        const Place coming = after(now, panels), then = after(coming, panels);
        next.prepare(now, coming, then, (part.end - part.begin + 1) / 2);
        const Range chunk = chunk_at(now.step);
        const Range turn = {now.step, now.step + now.count};
        run_panels<kFloatTerms, 2>(part, now.panel, {turn, chunk, turn.begin == chunk.begin, turn.end == chunk.end},
                                   blocks, next);
        next.advance();
        now = coming;
      }
    }
    for (Block& block : blocks) finish_all<kFloatTerms>(block);
  }

  Range chunk_at(std::int64_t step) const {
    const std::int64_t begin = step - step % p.chunk_steps;
    return {begin, min_of(p.n_steps, begin + p.chunk_steps)};
  }

  Place place(std::int64_t panel, std::int64_t step, Range panels) const {
    if (panel >= panels.end) return {panels.begin, 0, 0};
    return {panel, step, min_of(kFloatSteps, chunk_at(step).end - step)};
  }

  Place after(const Place& at, Range panels) const {
    if (at.count == 0) return at;
    const std::int64_t step = at.step + at.count;
    return step < p.n_steps ? place(at.panel, step, panels) : place(at.panel + 2, 0, panels);
  }

  // A chunk in parts of even length.
  template <int kTerms, int kN>
  void run_chunk(Range range, const Rows (&known)[2], std::int64_t panel, Range chunk, Block (&blocks)[2],
                 Ahead& next) const {
    const std::int64_t all = chunk.end - chunk.begin;
    const std::int64_t turns = (all + kL1Steps<kTerms> - 1) / kL1Steps<kTerms>, length = (all + turns - 1) / turns;
    for (std::int64_t k = chunk.begin; k < chunk.end; k += length) {
      const Range steps = {k, min_of(chunk.end, k + length)};
      const Turn turn = {steps, chunk, k == chunk.begin, steps.end == chunk.end};
      if (range.end - range.begin <= 2) {
        Block& now = finished(blocks);
        now.rows[0] = known[0];
        now.rows[1] = known[1];
        run_block<kTerms, kN>(now, range.end - range.begin, panel, turn, blocks, saved, next);
      } else {
        run_panels<kTerms, kN>(range, panel, turn, blocks, next);
      }
    }
  }

  template <int kTerms>
  const std::uint32_t* weights(std::int64_t panel, std::int64_t step) const {
    return b + panel * b_panel() + step * kTerms * kTileWords;
  }

  // What to fetch while a part meets the two panels before `panel`: this chunk of the next two, or the next chunk of
  // the first two.
  template <int kTerms>
  Ahead ahead(Range part, Range panels, Range chunk, std::int64_t panel) const {
    if ((panels.end - panels.begin) * b_panel() <= kResidentWords) return {b, 0, 0, 0, b};
    Range coming = chunk;
    if (panel >= panels.end) {
      panel = panels.begin;
      coming = chunk_at(chunk.end < p.n_steps ? chunk.end : 0);
    }
    const std::int64_t lines = kTerms * kTileWords / kPairs;  // of a step
    const std::int64_t passes = (part.end - part.begin + 1) / 2;
    const std::uint32_t* const at = weights<kTerms>(panel, coming.begin);
    return {at, panel + 1 < panels.end ? b_panel() : 0, (lines + passes - 1) / passes,
            (coming.end - coming.begin) * lines / Ahead::kStreams * kPairs,
            at + (coming.end - coming.begin) * lines / 2 * kPairs};
  }

  template <int kTerms, int kN, class Next>
  void run_panels(Range range, std::int64_t panel, const Turn& turn, Block (&blocks)[2], Next& next) const {
    Cursor<BrgemmSplitParams> at(p, tiles_per_row, range.begin);
    float* sums = saved;
    for (std::int64_t i = range.begin; i < range.end; i += 2, sums += 4 * kTileWords) {
      if constexpr (Next::kBeside) next.pass(i + 2 >= range.end);
      Block& now = finished(blocks);
      const std::int64_t count = min_of(2, range.end - i);
      for (int m = 0; m < count; ++m, at.next()) {
        now.rows[m] = rows_at(at);
        now.rows[m].place = i - range.begin + m;
      }
      run_block<kTerms, kN>(now, count, panel, turn, blocks, sums, next);
    }
  }

  static Block& finished(Block (&blocks)[2]) { return blocks[blocks[0].done < blocks[0].count]; }

  // Two or one tiles, whose rows `now` has, with kN panels. Not inlined: the code for all of them is long.
  template <int kTerms, int kN, class Next>
  [[gnu::noinline]] void run_block(Block& now, std::int64_t count, std::int64_t panel, const Turn& turn,
                                   Block (&blocks)[2], float* sums, Next& next) const {
    Block& before = &now == blocks ? blocks[1] : blocks[0];
    now.panel = panel;
    if constexpr (Next::kBeside) {
      multiply_tiles<kTerms, kN>(now, before, count, turn, sums, next);
    } else {
      Next ahead = next;  // in registers: stores between the loads of tiles would hold those up
      multiply_tiles<kTerms, kN>(now, before, count, turn, sums, ahead);
      next = ahead;
    }
  }

  template <int kTerms, int kN, class Next>
  [[gnu::always_inline]] void multiply_tiles(Block& now, Block& before, std::int64_t count, const Turn& turn,
                                             float* sums, Next& next) const {
    if (count == 2) {
      multiply<kTerms, 2, kN>(now, before, turn, sums, next);
    } else {
      multiply<kTerms, 1, kN>(now, before, turn, sums, next);
    }
  }
};

std::uint32_t* made_by(const BrgemmSplitParams& p, const KernelArgs& args) {
  if (p.makes == kInstead) return static_cast<std::uint32_t*>(args.out);
  return p.makes ? const_cast<std::uint32_t*>(static_cast<const std::uint32_t*>(args.in[2])) : nullptr;
}

}  // namespace

void brgemm_split_f32(const KernelArgs& args, Range range) noexcept {
  const BrgemmSplitParams& p = params_of<BrgemmSplitParams>(args);
  Tiles tiles(static_cast<int>(p.tile_m));
  alignas(64) float saved[2 * kSavedTiles * kTileWords];
  alignas(64) const float nothing[kTileWords] = {};
  alignas(64) float last[kSavedTiles * kTileWords];
  const std::int64_t tiles_per_row = (p.ow + p.tile_m - 1) / p.tile_m;
  const Range all_tiles = {0, p.batch * p.oh * tiles_per_row};
  const Range all_panels = {0, (p.n + kPairs - 1) / kPairs};
  const Range pixels = p.split_n ? all_tiles : range;
  const Range panels = p.split_n ? range : all_panels;
  const Loops loops{Finish(p, args.in[1], Stream(p, args.out, panels, last), nothing),
                    static_cast<const std::uint32_t*>(args.in[0]),
                    static_cast<const float*>(args.in[1]),
                    static_cast<float*>(args.out),
                    made_by(p, args),
                    tiles_per_row,
                    tiles,
                    saved};
  if (p.floats) {
    loops.run_beside(pixels, panels);
  } else if (p.terms == 3) {
    loops.run<3>(pixels, panels);
  } else if (p.terms == 2) {
    loops.run<2>(pixels, panels);
  } else {
    loops.run<1>(pixels, panels);
  }
  if (loops.past.on) fence();
}

}  // namespace forwardpass::FORWARDPASS_ISA
