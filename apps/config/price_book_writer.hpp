// A price book as TOML: what parse_price_book() reads back as the same book.
#pragma once

#include <string>
#include <string_view>

#include "core/price_book.hpp"

namespace outlast::apps {

// US dollars per million tokens, exact.
std::string dollars_per_million(PicoUsd per_token);

// `note` stands as a comment at the start; it holds no line breaks.
std::string write_price_book(const PriceBook& book, std::string_view note);

}  // namespace outlast::apps
