// SPDX-License-Identifier: MIT
#include "eval/generation.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

constexpr const char* kKeys[] = {"do_sample", "max_gen_toks", "temperature", "top_k", "top_p", "until"};

template <class T>
bool reads(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

OrderedJson value_of(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true") return true;
  if (lower == "false") return false;
  int64_t whole = 0;
  double number = 0;
  if (!text.starts_with('-') && reads(text, whole)) return whole;
  if (reads(python_strip(text), number)) return number;
  return text;
}

[[noreturn]] void wrong(const std::string& key, const char* expected, const OrderedJson& found) {
  fail("--gen-kwargs: ", key, ": expected ", expected, ", found ", found.dump());
}

}  // namespace

OrderedJson parse_gen_kwargs(const std::string& text) {
  OrderedJson kwargs = OrderedJson::object();
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    at = end + 1;
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    if (equals == part.npos) fail("--gen-kwargs: expected KEY=VALUE between commas, found \"", part, "\"");
    const std::string key = part.substr(0, equals);
    if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
      std::string known;
      for (const char* name : kKeys) known += (known.empty() ? "" : ", ") + std::string(name);
      fail("--gen-kwargs: \"", key, "\" is not supported; these are: ", known);
    }
    kwargs[key] = value_of(part.substr(equals + 1));
  }
  return kwargs;
}

GenerationArguments generation_of(const OrderedJson& kwargs) {
  GenerationArguments out;
  const auto given = [&](const char* key) { return kwargs.value(key, OrderedJson()); };
  const auto whole = [&](const char* key, int64_t least, const char* expected, int64_t& value) {
    const OrderedJson found = given(key);
    if (found.is_null()) return;
    if (!found.is_number_integer() || found < least) wrong(key, expected, found);
    value = found.get<int64_t>();
  };
  const OrderedJson until = given("until");
  for (const OrderedJson& stop : until.is_array() ? until : OrderedJson::array({until})) {
    if (stop.is_null()) continue;
    if (!stop.is_string() || stop == "") wrong("until", "a text", stop);
    out.stops.push_back(stop.get<std::string>());
  }
  whole("max_gen_toks", 1, "a whole number of at least 1", out.most);
  const OrderedJson sample = kwargs.value("do_sample", OrderedJson(false));
  if (!sample.is_boolean()) wrong("do_sample", "true or false", sample);
  SamplerOptions sampler{.top_k = 50};  // transformers' default
  whole("top_k", 0, "a whole number of at least 0", sampler.top_k);
  const auto number = [&](const char* key, double most, const char* expected, double& value) {
    const OrderedJson found = given(key);
    if (found.is_null()) return;
    if (!found.is_number() || !(found >= 0.0 && found <= most)) wrong(key, expected, found);
    value = found.get<double>();
  };
  number("temperature", std::numeric_limits<double>::max(), "a number of at least 0", sampler.temperature);
  number("top_p", 1, "a number from 0 to 1", sampler.top_p);
  if (!sample.get<bool>()) return out;
  if (sampler.temperature == 0) wrong("temperature", "a number above 0 with do_sample=true", given("temperature"));
  out.sampler = sampler;
  return out;
}

}  // namespace qwerky
