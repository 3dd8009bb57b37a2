// SPDX-License-Identifier: MIT
// How fast a model reads prompts and writes tokens, and what that is of what the machine could do.
#pragma once

#include <vector>

#include "engine/model.h"

namespace qwerky {

/// Bytes and operations of a model's products.
struct ProductCost {
  int64_t head_bytes = 0, layer_bytes = 0;    ///< of the weights
  int64_t head_params = 0, layer_params = 0;  ///< elements of the matrices
};
ProductCost product_cost(const Model& model);

/// The middle one of at least one value.
double median(std::vector<double> values);

/// Median seconds to read a prompt of `rows` tokens into a fresh state, logits of its last token included.
double measure_prefill(const Model& model, const Backend& on, int64_t rows, int64_t repeats);

struct DecodeOptions {
  int64_t batch = 1;  ///< sequences, one decoder call for all
  int64_t depth = 0;  ///< tokens each sequence has seen; the state is filled with small numbers instead of reading them
  int64_t tokens = 16;  ///< steps measured, after one that is not
};
/// Whether the states of these sequences fit in the memory that is available.
bool decode_fits(const Model& model, const Backend& on, const DecodeOptions& options);
/// Median seconds of one step: a decoder call, logits of every sequence, the likeliest token of each.
double measure_decode(const Model& model, const Backend& on, const DecodeOptions& options);

}  // namespace qwerky
