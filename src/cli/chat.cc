// SPDX-License-Identifier: MIT
// A conversation in the terminal. The model's state is kept between turns: a turn costs the tokens it adds, however
// long the conversation is.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iomanip>
#include <memory>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "cli/command.h"
#include "cli/sampler_flags.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "io/chat_format.h"
#include "io/files.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, system, template_file, variables;
  int64_t max_tokens = 1024, context = 4096;
  bool timings = false;
  EngineOptions engine;
  SamplerFlags sampler;
};

constexpr const char* kHelp =
    "/reset         forget the conversation\n"
    "/system TEXT   begin anew with this system message (without TEXT: with none)\n"
    "/retry         write the last answer again\n"
    "/quit          end; so does the end of input\n"
    "Ctrl-C         stop the answer; at the prompt, end\n";

// SIGINT stops the answer that is being written; a second one, or one while a message is awaited, ends the program.
volatile std::sig_atomic_t waiting = 0, stop_answer = 0;

extern "C" void on_interrupt(int signal) {
  if (waiting != 0 || stop_answer != 0) _exit(128 + signal);
  stop_answer = 1;
}

bool stopped() { return stop_answer != 0 || interrupted(); }

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

/// One line of stdin without its end; nothing at the end of input, or when the program was told to end.
std::optional<std::string> read_line() {
  static std::string pending;
  while (true) {
    if (const size_t end = pending.find('\n'); end != pending.npos) {
      std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    char buffer[4096];
    waiting = 1;
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    waiting = 0;
    if (n > 0) {
      pending.append(buffer, static_cast<size_t>(n));
    } else if (n < 0 && errno == EINTR && !interrupted()) {
      continue;
    } else if (n < 0 && errno != EINTR) {
      fail("cannot read stdin: ", std::generic_category().message(errno));
    } else {
      return pending.empty() || n < 0 ? std::nullopt : std::optional(std::exchange(pending, {}));
    }
  }
}

class Chat {
 public:
  explicit Chat(const Options& options)
      : o_(options),
        engine_(o_.model, o_.engine),
        tokenizer_(*engine_.internals().model->tokenizer),
        sampler_(o_.sampler.resolve(tokenizer_)),
        template_(read_template()),
        format_(tokenizer_, template_) {
    if (!o_.variables.empty()) {
      variables_ = OrderedJson(parse_json(o_.variables, "--template-variables"));
      if (!variables_.is_object()) fail("--template-variables: expected an object, found ", variables_.type_name());
    }
    reset();
    end_ = format_.turn_end(messages_, variables_);
  }

  void reset() {
    messages_ = OrderedJson::array();
    if (!o_.system.empty()) messages_.push_back({{"role", "system"}, {"content", o_.system}});
  }
  void set_system(const std::string& text) {
    o_.system = text;
    reset();
  }
  void say_to(const std::string& text) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    try {
      answer();
    } catch (const Error&) {
      messages_.erase(messages_.size() - 1);  // the conversation stays as it was
      throw;
    }
  }
  /// False when there is no answer to write again.
  bool retry() {
    if (messages_.empty() || messages_.back()["role"] != "assistant") return false;
    messages_.erase(messages_.size() - 1);
    answer();
    return true;
  }

 private:
  struct Kept {  ///< a state, and what it has read
    Session session;
    std::vector<int32_t> ids;
  };

  ChatTemplate read_template() const {
    if (!o_.template_file.empty()) return ChatTemplate(read_file(o_.template_file), o_.template_file);
    if (tokenizer_.chat_template.empty())
      fail(o_.model,
           ": the model has no chat template (chat_template in tokenizer_config.json, chat_template.jinja, or "
           "tokenizer.chat_template in a GGUF file); give one with --chat-template FILE, or use `qwerky generate`");
    return ChatTemplate(tokenizer_.chat_template, o_.model + ": chat template");
  }

  /// The tokens of `text` that are still to be read when `ids` have been; nothing when `text` does not begin with them.
  std::optional<std::vector<int32_t>> remainder(const std::string& text, const std::vector<int32_t>& ids) const {
    if (tokenizer_.drops_first_space) {  // a piece of a text has other tokens than the same within it
      std::vector<int32_t> all = engine_.encode(text);
      if (all.size() <= ids.size() || !std::equal(ids.begin(), ids.end(), all.begin())) return std::nullopt;
      all.erase(all.begin(), all.begin() + static_cast<int64_t>(ids.size()));
      return all;
    }
    const std::string read = tokenizer_.decode(ids, false);
    if (text.size() <= read.size() || !text.starts_with(read)) return std::nullopt;
    return engine_.encode(std::string_view(text).substr(read.size()));
  }

  /// Continues from the state that has read the beginning of `text`: that after the last answer, that before it, or
  /// none.
  std::vector<int32_t> prepare(const std::string& text) {
    for (std::unique_ptr<Kept>* kept : {&now_, &before_}) {
      if (!*kept) continue;
      if (auto rest = remainder(text, (*kept)->ids)) {
        if (kept == &before_) now_ = std::make_unique<Kept>(Kept{before_->session.fork(), before_->ids});
        return *std::move(rest);
      }
    }
    before_.reset();
    now_.reset();
    const int64_t most = engine_.max_tokens();
    now_ = std::make_unique<Kept>(Kept{Session(engine_, most > 0 ? std::min(most, o_.context) : o_.context), {}});
    return engine_.encode(text);
  }

  void append(std::span<const int32_t> ids) {
    constexpr size_t kPart = 512;  // so that a long prompt can be stopped
    while (!ids.empty() && !stopped()) {
      const auto part = ids.first(std::min(ids.size(), kPart));
      now_->session.append(part);
      now_->ids.insert(now_->ids.end(), part.begin(), part.end());
      ids = ids.subspan(part.size());
    }
  }

  void answer() {
    using Clock = std::chrono::steady_clock;
    const std::vector<int32_t> ids = prepare(format_.render(messages_, true, variables_));
    const auto held = static_cast<int64_t>(now_->ids.size());
    const int64_t room = (engine_.max_tokens() > 0 ? std::min(engine_.max_tokens(), o_.context) : INT64_MAX) - held -
                         static_cast<int64_t>(ids.size());
    if (ids.empty() && held == 0) fail("chat template: it renders this conversation as nothing");
    if (room < 1)
      fail("context: the conversation of ", held + static_cast<int64_t>(ids.size()), " tokens does not fit in ",
           std::min(engine_.max_tokens(), o_.context), "; /reset, or --context for more");
    const auto start = Clock::now();
    append(ids);
    const auto read = Clock::now();
    // For /retry: a linear state is a fixed few bytes. One that grows with the text is read again instead.
    before_.reset();
    if (engine_.max_tokens() == 0 && !stopped())
      before_ = std::make_unique<Kept>(Kept{now_->session.fork(), now_->ids});
    SamplerOptions options = sampler_;
    options.seed += answers_++;
    Sampler sampler(options, engine_.vocab());
    sampler.read(now_->ids);
    StreamDecoder stream(tokenizer_);
    std::string text;
    size_t printed = 0;
    int64_t written = 0;
    const int64_t most = std::min(o_.max_tokens, room);
    bool ended = false;
    while (written < most && !ended && !stopped()) {
      const int32_t id = sampler.draw(now_->session.logits());
      if (engine_.ends_text(id) || id == end_.token) break;
      ++written;
      text += stream.push(id);
      ended = show(text, printed);
      if (!ended && written < most) append({&id, 1});
    }
    if (!ended) {
      text += stream.finish();
      print(std::string_view(text).substr(printed));
    }
    print("\n");
    if (o_.timings)
      report(held, static_cast<int64_t>(ids.size()), std::chrono::duration<double>(read - start).count(), written,
             std::chrono::duration<double>(Clock::now() - read).count());
    stop_answer = 0;
    messages_.push_back({{"role", "assistant"}, {"content", text}});
  }

  /// Prints what cannot be the beginning of the text that ends a turn; true when that text is there, and cut off.
  bool show(std::string& text, size_t& printed) const {
    size_t safe = text.size();
    if (!end_.token && !end_.text.empty()) {
      if (const size_t at = text.find(end_.text); at != text.npos) {
        text.resize(at);
        print(std::string_view(text).substr(std::min(printed, at)));
        return true;
      }
      for (size_t n = std::min(end_.text.size() - 1, text.size()); n > 0; --n)
        if (text.ends_with(std::string_view(end_.text).substr(0, n))) {
          safe = text.size() - n;
          break;
        }
    }
    if (safe > printed) print(std::string_view(text).substr(printed, safe - printed)), printed = safe;
    return false;
  }

  void report(int64_t held, int64_t read, double read_seconds, int64_t written, double write_seconds) const {
    std::ostringstream line;
    line << std::fixed << std::setprecision(1) << "kept " << held << " tokens, read " << read << " in "
         << read_seconds * 1e3 << " ms, wrote " << written << " at "
         << static_cast<double>(written) / std::max(write_seconds, 1e-9) << " tok/s; state "
         << static_cast<double>(now_->session.state_bytes()) / 1024 << " KiB";
    say(line.str(), true);
  }

  Options o_;
  const Engine engine_;
  const Tokenizer& tokenizer_;
  const SamplerOptions sampler_;
  const ChatTemplate template_;
  const ChatFormat format_;
  OrderedJson variables_ = OrderedJson::object(), messages_;
  TurnEnd end_;
  std::unique_ptr<Kept> now_, before_;  // after what was read and written last; before the last answer
  uint64_t answers_ = 0;
};

/// False: the conversation is over.
bool take_turn(Chat& chat, const std::string& line) {
  const std::string command = line.substr(0, line.find(' '));
  if (line.find_first_not_of(" \t") == line.npos) return true;
  if (line[0] != '/') {
    chat.say_to(line);
  } else if (command == "/quit" || command == "/exit" || command == "/bye") {
    return false;
  } else if (command == "/reset") {
    chat.reset();
  } else if (command == "/system") {
    chat.set_system(line.size() > command.size() ? line.substr(command.size() + 1) : "");
  } else if (command == "/retry") {
    if (!chat.retry()) say("there is no answer to write again", true);
  } else if (command == "/help") {
    std::fputs(kHelp, stderr);
  } else {
    say(command + " is not a command; /help lists them", true);
  }
  return true;
}

int run_chat(const Options& o) {
  o.sampler.options.check();
  Chat chat(o);
  const bool terminal = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  if (terminal) say("Type a message. /help lists the commands.", true);
  while (!interrupted()) {
    if (terminal) print("> ");
    const auto line = read_line();
    if (!line) break;
    try {
      if (!take_turn(chat, *line)) break;
    } catch (const Error& e) {
      if (!terminal) throw;
      stop_answer = 0;
      say(concat("error: ", e.what()), true);
    }
  }
  return interrupted() ? kInterrupted : 0;
}

}  // namespace

void register_chat(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  o->sampler.options.temperature = 0.7;
  o->sampler.options.top_p = 0.9;
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_option("--system", o->system, "system message");
  flags.add_option("--chat-template", o->template_file, "Jinja file instead of the model's own chat template");
  flags.add_option("--template-variables", o->variables,
                   R"(JSON object for the template, such as {"enable_thinking": false})");
  o->sampler.add_to(flags);
  flags.add_option("--max-tokens", o->max_tokens, "most tokens of an answer")
      .with_default()
      .between(int64_t{1}, int64_t{1} << 40);
  flags.add_option("--context", o->context, "most tokens of a conversation, for a model with softmax layers")
      .with_default()
      .between(int64_t{1}, int64_t{1} << 40);
  flags.add_flag("--timings", o->timings, "after each answer: tokens kept, read and written, and how fast");
  add_backend_flags(flags, o->engine.backend, o->engine.precision);
  flags.callback([o, &run] { run = [o] { return run_chat(*o); }; });
}

}  // namespace qwerky
