// SPDX-License-Identifier: MIT
// The flags of the program and of its commands. CLI11 stands behind flags.cc: it is large, and every command needs
// flags.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace qwerky {

/// A flag or positional that was just added; calls chain.
class Flag {
 public:
  explicit Flag(CLI::Option& option) : option_(&option) {}
  Flag& required();
  /// --help shows the value it has now, or `text`.
  Flag& with_default();
  Flag& with_default(const std::string& text);
  /// A list's elements may be separated by commas.
  Flag& list();
  /// The flag may stand without its value.
  Flag& value_optional();
  /// The heading in --help.
  Flag& group(const std::string& heading);

  Flag& positive();
  Flag& not_negative();
  Flag& between(int64_t least, int64_t most);
  Flag& between_reals(double least, double most);
  /// A number of bytes, such as 512MiB.
  Flag& bytes();

 private:
  CLI::Option* option_;
};

/// Flags of the program or of one command. Names begin with --, those of positionals do not.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}
  /// T is text, a number, or a list of them; flags.cc names those that are used. `value` must outlive the parsing.
  template <class T>
  Flag add_option(const std::string& name, T& value, const std::string& help);
  /// A list of texts, which `set` is given.
  Flag add_option(const std::string& name, std::function<void(const std::vector<std::string>&)> set,
                  const std::string& help);
  /// True when given; a name that begins with ! makes it false.
  Flag add_flag(const std::string& name, bool& value, const std::string& help);
  /// How often it was given.
  size_t count(const std::string& name) const;
  /// Called when all flags of the command have their values.
  void callback(std::function<void()> done);

 private:
  CLI::App& app_;
};

/// The value is the exit status.
using Run = std::function<int()>;

/// A command registers its flags; when it is the one asked for, it sets what to run.
struct Command {
  const char* name;
  const char* help;
  void (*add)(Flags flags, Run& run);
};

/// Parses the command line. Without a value in `run`, the status to end with now: --help, --version or a mistake, told.
int parse_command_line(int argc, char** argv, const std::vector<Command>& commands, int& threads, Run& run);

}  // namespace qwerky
