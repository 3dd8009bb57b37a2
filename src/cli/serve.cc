// SPDX-License-Identifier: MIT
// `serve`: models behind OpenAI's protocol. Ends when told to (SIGINT, SIGTERM), once what was asked is answered.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/units.h"
#include "cli/command.h"
#include "io/files.h"
#include "serve/server.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, name, compare_with, key_file, chat_template, state_dir;
  std::string host = "127.0.0.1", cors_origin;
  int port = 8080;
  int64_t state_cache = int64_t{2} << 30;
  double timeout = 600, drain = 30;
  bool quiet = false;
  serve::RequestLimits limits;
  BatcherOptions batcher;
  EngineOptions engine;
};

/// The last part of a path, without a file's ending.
std::string name_of_model(const std::string& path) {
  Path at = Path(path).lexically_normal();
  if (!at.has_filename()) at = at.parent_path();
  return is_dir(path) ? at.filename().string() : at.stem().string();
}

serve::ServedModelOptions model_options(const Options& o, const std::string& path, const std::string& name,
                                        int64_t share) {
  serve::ServedModelOptions out;
  out.path = path;
  out.name = name;
  if (!o.chat_template.empty()) out.chat_template = read_file(o.chat_template);
  out.engine = o.engine;
  out.batcher = o.batcher;
  out.cache.memory_bytes = o.state_cache / share;
  if (!o.state_dir.empty()) out.cache.folder = Path(o.state_dir) / name;
  return out;
}

int run_server(const Options& o) {
  serve::ServerOptions options;
  options.http.host = o.host;
  options.http.port = o.port;
  options.http.cors_origin = o.cors_origin;
  if (!o.quiet) options.http.log = [](const std::string& line) { say(line, true); };
  if (!o.key_file.empty()) options.keys = serve::ApiKeys(read_file(o.key_file), o.key_file);
  options.limits = o.limits;
  options.timeout = o.timeout;
  const std::string name = o.name.empty() ? name_of_model(o.model) : o.name;
  std::vector<serve::ServedModelOptions> models = {model_options(o, o.model, name, o.compare_with.empty() ? 1 : 2)};
  if (!o.compare_with.empty()) {
    const std::string other = name_of_model(o.compare_with);
    models.push_back(model_options(o, o.compare_with, other == name ? other + "-teacher" : other, 2));
  }

  serve::Server server(options);
  const auto start = Clock::now();
  auto loading = std::async(std::launch::async, [&] { server.load(models); });
  while (loading.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready)
    if (interrupted()) std::_Exit(0);  // nothing was begun that would have to be finished
  loading.get();
  say(concat("loaded in ", static_cast<int64_t>(seconds_since(start) * 1e3), " ms"), true);
  if (options.keys.empty() && !serve::names_loopback(o.host))
    say("no --api-key-file: everybody who reaches " + o.host + " may use this server", true);
  const bool v6 = o.host.find(':') != o.host.npos;
  std::printf("http://%s%s%s:%d\n", v6 ? "[" : "", o.host.c_str(), v6 ? "]" : "", server.port());
  std::fflush(stdout);
  while (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  say("stopping: no new requests; those under way are finished", true);
  server.drain(o.drain);
  return 0;
}

}  // namespace

void register_serve(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_option("--host", o->host, "address to listen on").with_default();
  flags.add_option("--port", o->port, "port to listen on (0: any that is free)").with_default().between(0, 65535);
  flags.add_option("--name", o->name, "the model's name in requests (default: the last part of its path)");
  flags.add_option("--compare-with", o->compare_with, "a second model, such as the teacher, that requests may name");
  flags.add_option("--api-key-file", o->key_file, "one key a line; all routes but /health and the page then need one");
  flags.add_option("--parallel", o->batcher.parallel, "sequences that run at once").with_default().between(1, 4096);
  flags.add_option("--queue", o->batcher.queue, "sequences that wait; more are refused")
      .with_default()
      .between(0, 1 << 20);
  flags.add_option("--context", o->batcher.capacity, "most tokens of a sequence (0: as many as the model takes)")
      .with_default()
      .between(0, int64_t{1} << 40);
  flags.add_option("--max-tokens", o->limits.new_tokens, "most tokens that a request may ask for")
      .with_default()
      .between(1, int64_t{1} << 40);
  flags.add_option("--prompt-tokens", o->limits.prompt_tokens, "most tokens of a request's prompts, each times n")
      .with_default()
      .between(1, int64_t{1} << 40);
  flags.add_option("--state-cache", o->state_cache, "memory for states of earlier texts, such as 512MiB or 2GiB")
      .with_default()
      .bytes();
  flags.add_option("--state-dir", o->state_dir,
                   "directory where states survive a restart, and for those that memory has no room for");
  flags.add_option("--timeout", o->timeout, "seconds for one request").with_default().between_reals(0.001, 1e7);
  flags.add_option("--cors-origin", o->cors_origin, "origin of web pages that may call, such as https://example.org");
  flags.add_option("--chat-template", o->chat_template, "Jinja file instead of the model's own chat template");
  flags.add_flag("--quiet", o->quiet, "no line for each request");
  add_backend_flags(flags, o->engine.backend, o->engine.precision);
  flags.callback([o, &run] { run = [o] { return run_server(*o); }; });
}

}  // namespace qwerky
