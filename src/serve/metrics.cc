// SPDX-License-Identifier: MIT
#include "serve/metrics.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"

namespace qwerky::serve {

void write_metric(std::string& out, const std::string& name, const std::string& help, const char* type,
                  const std::string& labels, double value) {
  std::ostringstream line;
  line.precision(15);
  if (!help.empty()) line << "# HELP " << name << ' ' << help << "\n# TYPE " << name << ' ' << type << '\n';
  line << name << labels << ' ' << value << '\n';
  out += line.str();
}

void Histogram::add(double seconds) {
  const auto at = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  ++counts_[static_cast<size_t>(at - kBounds.begin())];
  sum_ += seconds;
}

void Histogram::write(std::string& out, const std::string& name, const std::string& help) const {
  out += concat("# HELP ", name, ' ', help, "\n# TYPE ", name, " histogram\n");
  int64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    const std::string bound = i < kBounds.size() ? concat(kBounds[i]) : "+Inf";
    out += concat(name, "_bucket{le=\"", bound, "\"} ", below, '\n');
  }
  out += concat(name, "_sum ", sum_, '\n', name, "_count ", below, '\n');
}

void Metrics::answered(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++answers_[{route, status}];
}

void Metrics::first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}

void Metrics::finished(double seconds) {
  const std::lock_guard lock(mutex_);
  whole_.add(seconds);
}

void Metrics::write(std::string& out) const {
  const std::lock_guard lock(mutex_);
  bool first = true;
  for (const auto& [key, count] : answers_) {
    write_metric(out, "qwerky_requests_total", first ? "Answers by route and status" : "", "counter",
                 concat("{route=\"", key.first, "\",status=\"", key.second, "\"}"), static_cast<double>(count));
    first = false;
  }
  first_token_.write(out, "qwerky_time_to_first_token_seconds", "From a request's arrival to its first token");
  whole_.write(out, "qwerky_request_seconds", "From a request's arrival to its whole answer");
}

}  // namespace qwerky::serve
