// SPDX-License-Identifier: MIT
// What /metrics tells, in Prometheus' text format.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace qwerky::serve {

/// Counts by upper bound, as Prometheus' histograms do.
class Histogram {
 public:
  void add(double seconds);
  void write(std::string& out, const std::string& name, const std::string& help) const;

 private:
  static constexpr std::array<double, 12> kBounds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120};
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

/// Safe to call from any thread.
class Metrics {
 public:
  void answered(const std::string& route, int status);
  void first_token(double seconds);
  void finished(double seconds);
  void write(std::string& out) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> answers_;
  Histogram first_token_, whole_;
};

/// One line, with its HELP and TYPE when `help` is not empty. `labels`: such as {model="x"}, or empty.
void write_metric(std::string& out, const std::string& name, const std::string& help, const char* type,
                  const std::string& labels, double value);

}  // namespace qwerky::serve
