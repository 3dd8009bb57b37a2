// SPDX-License-Identifier: MIT
#include "engine/export_gguf.h"

#include <iomanip>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "cli/command.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, out, type = "bf16";
  bool gguf = false;
};

int write(const Options& o) {
  if (!o.gguf) fail("export: which format? Give --gguf");
  const GgufExport done = export_gguf(o.model, o.out, o.type);
  std::cout << done.architecture << ", " << done.type << ": " << done.tensors << " tensors, " << std::fixed
            << std::setprecision(2) << static_cast<double>(done.bytes) / (1 << 20) << " MiB, written to " << o.out
            << "\n";
  if (done.f16 > 0) std::cout << done.f16 << " matrices are F16: their rows are not whole " << done.type << " blocks\n";
  return 0;
}

}  // namespace

void register_export(CLI::App& app, Run& run) {
  const auto o = std::make_shared<Options>();
  app.add_option("model", o->model, "model directory or file")->required();
  app.add_flag("--gguf", o->gguf, "one GGUF file, as llama.cpp reads it");
  app.add_option("--out", o->out, "file to write")->required();
  app.add_option("--type", o->type, "of matrices: f32 | f16 | bf16 | q8_0 | q4_0")->capture_default_str();
  app.callback([o, &run] { run = [o] { return write(*o); }; });
}

}  // namespace qwerky
