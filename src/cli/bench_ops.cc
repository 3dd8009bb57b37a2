// SPDX-License-Identifier: MIT
#include "cli/bench_ops.h"

#include <iomanip>
#include <iostream>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/onednn_peer.h"
#include "cli/result.h"
#include "engine/engine.h"
#include "engine/op_bench.h"
#include "engine/random_model.h"
#include "io/files.h"

namespace qwerky {
namespace {

constexpr double kCallSeconds = 0.15;  ///< of calls of one operation

PeerCall onednn_call(const OneDnn& peer, const OpCase& c, int64_t copies) {
  using Type = OneDnnProduct::Type;
  if (!peer.product || c.inputs == 0 || c.type == DType::i4) return nullptr;
  return peer.product({.type = c.type == DType::f32    ? Type::f32
                               : c.type == DType::bf16 ? Type::bf16
                                                       : Type::int8,
                       .rows = c.rows,
                       .inputs = c.inputs,
                       .outputs = c.outputs,
                       .copies = copies,
                       .threads = threads()});
}

}  // namespace

int bench_ops(const OpsBenchOptions& o) {
  if (o.backend == "reference")
    fail("bench --ops: compares with the reference; expected --backend auto, avx2 or avx512");
  const OpSizes z = op_sizes(published_config(o.random, "softmax"));
  const auto single = make_backend(o.backend, Precision::f32);
  const Precision half = resolve_precision(o.precision, DType::bf16, o.backend);
  const auto pairs = make_backend(o.backend, half);
  const OneDnn peer = open_onednn();
  const Peaks peaks = measure_peaks(threads(), 1.5);
  const ReadMeter meter(threads());
  Arena memory("operands");
  std::cout << std::fixed << std::setprecision(1) << "machine   " << threads()
            << (threads() == 1 ? " thread" : " threads") << ": read " << peaks.read_gb_s << " GB/s, f32 "
            << peaks.f32_gflops << ", bf16 " << peaks.bf16_gflops << " GFLOP/s, int8 " << peaks.int8_gops << " GOP/s\n"
            << "shape     " << o.random << ": D " << z.hidden << ", F " << z.intermediate << ", V " << z.vocab << ", A "
            << z.heads * z.head << ", W " << z.kv_heads * z.head << ", N " << z.head << ", T " << z.depth
            << "; R rows; M bytes of weights; backend " << single->name() << "\n"
            << "peer      " << peer.about << "\n"
            << "operation                rows         µs    GB/s   GOP/s  read GB/s  bound   of roof  oneDNN µs   "
               "ratio  difference"
               "  allowed  rows compared  bytes; operations\n";
  Json rows = Json::array();
  std::vector<std::string> wrong;
  for (const OpCase& c : op_cases(z)) {
    const Backend& on = c.type == DType::bf16 ? *pairs : *single;
    const Agreement agreement = compare_with_reference(c, on, memory);
    const OpTime t = time_op(c, on, memory, kCallSeconds, &meter,
                             [&](const OpCase& k, int64_t n) { return onednn_call(peer, k, n); });
    const Roof top = roof(c, t.read_gb_s, product_peak(peaks, c.type, on, half));
    const bool agrees = agreement.difference <= c.tolerance;
    if (!agrees)
      wrong.push_back(concat(c.name(), " of ", c.rows, " rows differs from the reference by ", agreement.difference,
                             " of the largest value, at most ", c.tolerance, " is allowed"));
    std::cout << std::left << std::setw(22) << c.name() << std::right << std::setw(7) << c.rows << std::setprecision(1)
              << std::setw(11) << 1e6 * t.seconds << std::setw(8) << 1e-9 * c.bytes / t.seconds << std::setw(8)
              << 1e-9 * c.operations / t.seconds << std::setw(11) << t.read_gb_s << (top.memory ? "  read" : "  peak")
              << std::setprecision(0) << std::setw(9) << 100 * top.seconds / t.seconds << " %" << std::setprecision(1)
              << std::setw(11);
    if (t.peer_seconds > 0) {
      std::cout << 1e6 * t.peer_seconds << std::setprecision(2) << std::setw(7) << t.peer_seconds / t.seconds << "×";
    } else {
      std::cout << "-" << std::setw(8) << "-";
    }
    std::cout << std::scientific << std::setprecision(1) << std::setw(12) << agreement.difference << std::setw(9)
              << c.tolerance << std::fixed << std::setw(15) << agreement.rows << "  " << c.bytes_formula << "; "
              << c.operations_formula << (agrees ? "" : "  WRONG") << std::endl;
    rows.push_back({{"operation", c.name()},
                    {"rows", c.rows},
                    {"seconds", t.seconds},
                    {"bytes", c.bytes},
                    {"bytes_formula", c.bytes_formula},
                    {"operations", c.operations},
                    {"operations_formula", c.operations_formula},
                    {"read_gb_s", t.read_gb_s},
                    {"bound", top.memory ? "read" : "peak"},
                    {"share_of_roof", top.seconds / t.seconds},
                    {"onednn_seconds", t.peer_seconds > 0 ? Json(t.peer_seconds) : Json()},
                    {"difference", agreement.difference},
                    {"tolerance", c.tolerance},
                    {"rows_compared", agreement.rows}});
  }
  write_result(o.json, Json{{"threads", threads()},
                            {"shape", o.random},
                            {"backend", single->name()},
                            {"onednn", peer.about},
                            {"peaks", to_json(peaks)},
                            {"operations", rows}});
  for (const std::string& what : wrong) std::cerr << "error: " << what << "\n";
  return wrong.empty() ? 0 : 1;
}

}  // namespace qwerky
