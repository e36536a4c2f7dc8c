// SPDX-License-Identifier: Apache-2.0
// kLanes vectors as the rows of a square matrix, and its columns; here one number.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE void transpose(Vec (&)[kLanes]) {}

}  // namespace forwardpass::FORWARDPASS_ISA
