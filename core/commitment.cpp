#include "core/commitment.hpp"

#include <algorithm>

namespace outlast {

bool Commitment::covers(std::string_view served_model) const {
  return models.empty() || std::find(models.begin(), models.end(), served_model) != models.end();
}

}  // namespace outlast
