// Constraint: what an answer may be, token by token. Only tokens of the vocabulary proper ever come: never an added or special one.
#pragma once

#include "gpu/decode/token_mask.hpp"

namespace outlast::gpu {

// Where one answer stands. One owner.
class Constraint {
 public:
  virtual ~Constraint() = default;
  Constraint() = default;
  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;

  // The tokens that may come next, the end not among them; valid until the next call of anything. None, where may_end() is false too:
  // the vocabulary cannot spell what has to come.
  virtual const TokenMask& allowed() = 0;
  [[nodiscard]] virtual bool may_end() const = 0;
  // `token` has come; one that was allowed.
  virtual void advance(TokenId token) = 0;
};

}  // namespace outlast::gpu
