// SPDX-License-Identifier: Apache-2.0
// Where a tile of output pixels begins in the operands of brgemm.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// A tile of at most `tile_m` pixels of a row, and the way to the next one.
template <class Params>
class Cursor {
 public:
  Cursor(const Params& p, std::int64_t tiles_per_row, std::int64_t index) : p_(p), tiles_per_row_(tiles_per_row) {
    if (index == 0) return;  // no divisions for small layers
    tile_ = index % tiles_per_row;
    row_ = index / tiles_per_row % p.oh;
    batch_ = index / tiles_per_row / p.oh;
  }
  void next() {
    if (++tile_ < tiles_per_row_) return;
    tile_ = 0;
    if (++row_ < p_.oh) return;
    row_ = 0;
    ++batch_;
  }
  std::int64_t a() const { return batch_ * p_.a_batch + row_ * p_.a_row + tile_ * p_.tile_m * p_.a_col; }
  std::int64_t c() const { return batch_ * p_.c_batch + row_ * p_.c_row + tile_ * p_.tile_m * p_.c_col; }
  std::int64_t residual() const { return batch_ * p_.r_batch + row_ * p_.r_row + tile_ * p_.tile_m * p_.r_col; }
  std::int64_t batch() const { return batch_; }
  std::int64_t row() const { return row_; }
  std::int64_t position() const { return tile_ * p_.tile_m; }
  int rows() const { return static_cast<int>(min_of(p_.tile_m, p_.ow - tile_ * p_.tile_m)); }

 private:
  const Params& p_;
  std::int64_t tiles_per_row_;
  std::int64_t tile_ = 0;
  std::int64_t row_ = 0;
  std::int64_t batch_ = 0;
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
