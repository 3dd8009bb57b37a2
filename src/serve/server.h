// SPDX-License-Identifier: MIT
// The server: routes, who may use them, and the models behind them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/admission.h"
#include "serve/http.h"
#include "serve/served_model.h"

namespace qwerky::serve {

struct ServerOptions {
  HttpOptions http;
  ApiKeys keys;
  RequestLimits limits;
  double timeout = 600;  ///< seconds for one request
};

class Server {
 public:
  /// Listens at once; until load() is done, all but /health answer 503. Throws Error where it cannot listen.
  explicit Server(const ServerOptions& options);
  ~Server();
  int port() const;
  /// The first is the one that requests without a model's name get.
  void load(const std::vector<ServedModelOptions>& models);
  /// Nothing new is taken; returns when what was taken is answered, or after `seconds`, and what was read is kept on
  /// disk where there is a folder for it, which takes at most 10 seconds more.
  void drain(double seconds);

 private:
  struct Internals;
  std::unique_ptr<Internals> internals_;
};

}  // namespace qwerky::serve
