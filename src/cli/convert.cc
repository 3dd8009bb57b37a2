// SPDX-License-Identifier: MIT
#include "distill/convert.h"

#include <memory>

#include "cli/command.h"
#include "model/config.h"

namespace qwerky {
namespace {

int status(RunEnd outcome) { return outcome == RunEnd::interrupted ? kInterrupted : 0; }

}  // namespace

void register_convert(Flags flags, Run& run) {
  const auto o = std::make_shared<ConvertOptions>();
  flags.add_option("teacher", o->teacher, "model directory or file").required();
  flags.add_option("--to", o->to, linear_mixers(" | ") + " | softmax (a control: a copy of the teacher trained alike)")
      .with_default();
  flags.add_option("--keep-softmax", o->keep_softmax, "layers that stay softmax, e.g. 3,7").list();
  flags.add_option("--store", o->store, "matrices of the result: auto (as the teacher's) | f32 | bf16").with_default();
  flags.add_option("--sample-tokens", o->sample_tokens, "without --data: tokens sampled from the teacher")
      .with_default();
  flags
      .add_option(
          "--teacher-memory", o->teacher_memory,
          "the teacher's layers: whole | layers (two at a time, from its files) | ranks (two at a time, from parts "
          "that ranks hold)")
      .with_default();
  FieldFlags fields{flags};
  o->run.visit(fields);
  flags.callback([o, &run] { run = [o] { return status(convert(*o, say, interrupted(), ranks_of_this_run())); }; });
}

void register_train(Flags flags, Run& run) {
  const auto o = std::make_shared<TrainOptions>();
  o->run.recipe = "teacher";
  flags.add_option("config", o->config, "config.json of the model to train").required();
  flags.add_option("--vocab", o->vocab, "ids of the byte-level BPE to train, unless --out holds a tokenizer.json")
      .with_default();
  FieldFlags fields{flags};
  o->run.visit(fields);
  flags.callback([o, &run] { run = [o] { return status(train(*o, say, interrupted(), ranks_of_this_run())); }; });
}

}  // namespace qwerky
