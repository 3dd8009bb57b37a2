// SPDX-License-Identifier: MIT
// A model rounded to codes, calibrated on text, as a packed file whose card tells what that cost.
#pragma once

#include <string>

#include "engine/measure.h"
#include "engine/packing.h"
#include "engine/quantize_matrix.h"

namespace qwerky {

struct QuantizeOptions {
  std::string type = "int4";                    ///< of the layers' matrices: int8 or int4
  std::string head = "int8";                    ///< f32, bf16, int8 or int4; also an embedding that is the head
  std::string embedding = "";                   ///< the same, of an embedding that is not the head; empty: int8
  std::string low_rank = "int8";                ///< f32, bf16, int8 or int4
  int64_t group = 0;                            ///< inputs that share a scale: 32, 64 or 128; 0: by width
  bool minimum = false;                         ///< int4: a minimum for each group
  Calibration calibration = Calibration::gptq;  ///< none without calibration text
  int64_t layers_at_once = 0;  ///< layers calibrated in one pass over the text; 0: one, or more in a large model
};

struct Quantized {
  Comparison cost;  ///< teacher: the model as it was; student: the one written
  bool measured = false;
  Calibration calibration = Calibration::none;
  std::string format;
  int64_t bytes = 0;  ///< of the file
};

/// The formats that the options mean for this configuration; throws Error naming the flag that is wrong.
PackFormats quantized_formats(const QuantizeOptions& options, const Config& config);

/// Changes the quantized model, whose weights are its own, once all is calibrated.
using Improve = std::function<void(const Model& original, Model& quantized)>;

/// Quantizes the checkpoint layer by layer, each calibrated on what the layers before it, already quantized, give; and
/// writes `out`. Either set of windows may be empty: then nothing is calibrated, or measured. `card`: what else to
/// keep.
Quantized quantize(const Checkpoint& checkpoint, const QuantizeOptions& options, const Windows& calibrate,
                   const Windows& measure, const Json& card, const std::string& out, const Progress& progress = nullptr,
                   const Improve& improve = nullptr);

}  // namespace qwerky
