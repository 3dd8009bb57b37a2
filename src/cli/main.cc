// SPDX-License-Identifier: MIT
// The program: one binary, one subcommand per file. Results go to stdout, progress to stderr; an Error is one line and
// exit status 1.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <mutex>

#include "backend/collective.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/units.h"
#include "cli/command.h"
#include "io/files.h"

namespace qwerky {

std::atomic<bool>& interrupted() {
  static std::atomic<bool> flag = false;
  return flag;
}

void check_interrupted() {
  if (interrupted()) throw Interrupted();
}

std::string& command_line() {
  static std::string line;
  return line;
}

void say(const std::string& line, bool final) {
  static std::mutex one_at_a_time;  // measurement reports from several threads
  const std::lock_guard lock(one_at_a_time);
  static const bool terminal = isatty(STDERR_FILENO) != 0;
  static bool open_line = false;
  static auto last = std::chrono::steady_clock::time_point{};
  const auto now = std::chrono::steady_clock::now();
  if (!final && !terminal && now - last < std::chrono::seconds(10)) return;
  last = now;
  winsize size{};  // a line that wraps could not be overwritten
  const bool cut = !final && terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  std::fprintf(stderr, "%s%s%s", terminal && open_line ? "\r\033[K" : "",
               cut ? first_columns(line, size.ws_col - 1u).c_str() : line.c_str(), final || !terminal ? "\n" : "");
  open_line = !final && terminal;
  std::fflush(stderr);
}

namespace {

/// As a shell reads it: in single quotes unless nothing in it is special.
std::string quoted(const std::string& word) {
  constexpr const char* kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=,+@%-";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string out = "'";
  for (char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

extern "C" void on_signal(int signal) {
  if (interrupted().exchange(true)) _exit(128 + signal);
}

/// Throws Error when what was printed did not all arrive.
void check_stdout() {
  errno = 0;
  if (!std::cout.flush() || std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    fail("cannot write the result to stdout", errno != 0 ? concat(": ", std::strerror(errno)) : "");
}

int run_program(int argc, char** argv) {
  const std::vector<Command> commands = {
      {"convert", "convert a softmax model into an RWKV variant and distil it", register_convert},
      {"train", "train a small softmax model from random weights", register_train},
      {"generate", "continue a prompt", register_generate},
      {"chat", "talk with a model", register_chat},
      {"serve", "answer requests of OpenAI's protocol", register_serve},
      {"compare", "measure a student against its teacher on text", register_compare},
      {"eval", "evaluate one model", register_eval},
      {"logits", "write the logits of given token ids", register_logits},
      {"inspect", "show what a model is and what it needs", register_inspect},
      {"bench", "measure this machine and the program on it", register_bench},
      {"quantize", "round a model to int8 or int4, calibrated on text", register_quantize},
      {"export", "write a model in another format", register_export},
  };
  for (int i = 0; i < argc; ++i) command_line() += (i > 0 ? " " : "") + quoted(argv[i]);
  int thread_count = 0;
  Run run;
  const int status = parse_command_line(argc, argv, commands, thread_count, run);
  if (!run) {
    check_stdout();
    return status;
  }
  if (thread_count != 0) set_threads(thread_count);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is then an Error of the write, not the end
  const int ended = run();
  check_stdout();
  return ended;
}

/// The exit status of a program that cannot go on; other ranks of the run would wait for it, and are ended.
int give_up(int status, const char* what) {
  const std::string rank = rank_name();
  std::fprintf(stderr, "%s%s%s\n", rank.c_str(), rank.empty() ? "" : ": ", what);
  if (!rank.empty()) ranks_of_this_run().abort(status);
  return status;
}

}  // namespace
}  // namespace qwerky

int main(int argc, char** argv) {
  using qwerky::give_up;
  try {
    return qwerky::run_program(argc, argv);
  } catch (const qwerky::Error& e) {
    return give_up(1, ("error: " + std::string(e.what())).c_str());
  } catch (const qwerky::Interrupted&) {
    return give_up(qwerky::kInterrupted, "interrupted");
  } catch (const nlohmann::json::exception& e) {
    return give_up(
        1, ("error: a path or text that is not valid UTF-8 cannot be recorded: " + std::string(e.what())).c_str());
  } catch (const std::bad_alloc&) {
    return give_up(1, "error: out of memory");
  } catch (const std::exception& e) {  // of the system: a thread that cannot be started
    return give_up(1, ("error: " + std::string(e.what())).c_str());
  }
}
