// SPDX-License-Identifier: MIT
#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "base/version.h"

namespace qwerky {
namespace {

/// Checks of numbers whose messages a reader understands: CLI11's own tell the largest double.
CLI::Validator number_check(bool zero) {
  const auto check = [zero](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && (zero ? value >= 0 : value > 0)) return {};
    return (zero ? "expected a number of at least 0, found " : "expected a number above 0, found ") + text;
  };
  return {check, zero ? "NONNEGATIVE" : "POSITIVE"};
}

}  // namespace

Flag& Flag::required() { return option_->required(), *this; }
Flag& Flag::with_default() { return option_->capture_default_str(), *this; }
Flag& Flag::with_default(const std::string& text) { return option_->default_str(text), *this; }
Flag& Flag::list() { return option_->delimiter(','), *this; }
Flag& Flag::value_optional() { return option_->expected(0, 1), *this; }
Flag& Flag::group(const std::string& heading) { return option_->group(heading), *this; }
Flag& Flag::positive() { return option_->check(number_check(false)), *this; }
Flag& Flag::not_negative() { return option_->check(number_check(true)), *this; }
Flag& Flag::between(int64_t least, int64_t most) { return option_->check(CLI::Range(least, most)), *this; }
Flag& Flag::between_reals(double least, double most) { return option_->check(CLI::Range(least, most)), *this; }
Flag& Flag::bytes() { return option_->transform(CLI::AsSizeValue(false)), *this; }

template <class T>
Flag Flags::add_option(const std::string& name, T& value, const std::string& help) {
  return Flag(*app_.add_option(name, value, help));
}
template Flag Flags::add_option(const std::string&, std::string&, const std::string&);
template Flag Flags::add_option(const std::string&, std::optional<std::string>&, const std::string&);
template Flag Flags::add_option(const std::string&, std::optional<int>&, const std::string&);
template Flag Flags::add_option(const std::string&, int&, const std::string&);
template Flag Flags::add_option(const std::string&, int64_t&, const std::string&);
template Flag Flags::add_option(const std::string&, uint64_t&, const std::string&);
template Flag Flags::add_option(const std::string&, double&, const std::string&);
template Flag Flags::add_option(const std::string&, std::vector<std::string>&, const std::string&);
template Flag Flags::add_option(const std::string&, std::vector<int>&, const std::string&);
template Flag Flags::add_option(const std::string&, std::vector<int64_t>&, const std::string&);
template Flag Flags::add_option(const std::string&, std::vector<double>&, const std::string&);

Flag Flags::add_option(const std::string& name, std::function<void(const std::vector<std::string>&)> set,
                       const std::string& help) {
  return Flag(*app_.add_option_function<std::vector<std::string>>(name, set, help));
}

Flag Flags::add_flag(const std::string& name, bool& value, const std::string& help) {
  return Flag(*app_.add_flag(name, value, help));
}

size_t Flags::count(const std::string& name) const { return app_.count(name); }

void Flags::callback(std::function<void()> done) { app_.callback(std::move(done)); }

int parse_command_line(int argc, char** argv, const std::vector<Command>& commands, int& threads, Run& run) {
  CLI::App app("Qwerky: softmax-attention models become linear-attention models, run, and are measured.");
  app.require_subcommand(1);
  app.set_version_flag("--version", program_version());
  app.add_option("--threads", threads, "threads (default: the cores this process may use)")->check(CLI::Range(1, 1024));
  app.fallthrough();
  for (const Command& c : commands) c.add(Flags(*app.add_subcommand(c.name, c.help)), run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;  // 0: --help, --version
  }
  return 0;
}

}  // namespace qwerky
