// SPDX-License-Identifier: MIT
// training/log.jsonl: one object a report, written by Trainer.
#pragma once

#include "base/json.h"
#include "io/files.h"

namespace qwerky {

/// Drops what the log has beyond a checkpoint, and a line that was cut: those steps run, and are logged, again.
void trim_log(const Path& file, int64_t stage, int64_t step);

/// The last report of each stage: a list of objects with stage, name, step, loss, and the validation_… there is.
Json final_losses(const Path& file);

}  // namespace qwerky
