// SPDX-License-Identifier: MIT
#include "engine/export_gguf.h"
#include "engine/export_packed.h"

#include <iomanip>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "cli/command.h"
#include "io/files.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, out, type;
  bool gguf = false, packed = false;
};

int write(const Options& o) {
  if (o.gguf == o.packed) fail("export: which format? Give one of --gguf and --packed");
  check_writable_file(o.out);
  if (o.packed) {
    const int64_t bytes = export_packed(o.model, o.out, o.type.empty() ? "auto" : o.type);
    std::cout << "packed, " << std::fixed << std::setprecision(2) << static_cast<double>(bytes) / (1 << 20)
              << " MiB, written to " << o.out << "\n";
    return 0;
  }
  const GgufExport done = export_gguf(o.model, o.out, o.type.empty() ? "bf16" : o.type);
  std::cout << done.architecture << ", " << done.type << ": " << done.tensors << " tensors, " << std::fixed
            << std::setprecision(2) << static_cast<double>(done.bytes) / (1 << 20) << " MiB, written to " << o.out
            << "\n";
  if (done.f16 > 0) std::cout << done.f16 << " matrices are F16: their rows are not whole " << done.type << " blocks\n";
  return 0;
}

}  // namespace

void register_export(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_flag("--gguf", o->gguf, "one GGUF file, as llama.cpp reads it");
  flags.add_option("--out", o->out, "file to write").required();
  flags.add_flag("--packed", o->packed, "one file that starts at once, for this program");
  flags.add_option("--type", o->type,
                   "of matrices: f32 | f16 | bf16 (default) | q8_0 | q4_0 with --gguf; f32 | bf16 | int8 | int4 with "
                   "--packed (default: as stored)");
  flags.callback([o, &run] { run = [o] { return write(*o); }; });
}

}  // namespace qwerky
