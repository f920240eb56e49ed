// outlast completion bash|zsh|fish: scripts made from the commands themselves, so that they cannot
// fall behind.
#include <set>

#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

struct Word {
  std::string text;  // "create", "--tenant"
  std::string description;
  bool takes_value = false;
};

// What can follow after the commands of `path`: " key create", or "" at the start.
struct Place {
  std::string path;
  std::vector<Word> words;
};

void collect_places(const CLI::App& command, const std::string& path, std::vector<Place>& places) {
  Place place{path, {}};
  const auto subcommands = command.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : subcommands)
    place.words.push_back({sub->get_name(), sub->get_description()});
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      place.words.push_back(
          {"--" + name, option->get_description(), option->get_items_expected_max() > 0});
    }
  }
  places.push_back(std::move(place));
  for (const CLI::App* sub : subcommands)
    collect_places(*sub, path + " " + sub->get_name(), places);
}

// A word of the shell: in single quotes, which end before and start again after each quote inside.
std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

// ' key' | ' key create' | …: every path but the empty one.
std::string path_patterns(const std::vector<Place>& places, const char* between) {
  std::string patterns;
  for (const Place& place : places) {
    if (place.path.empty()) continue;
    if (!patterns.empty()) patterns += between;
    patterns += shell_quoted(place.path);
  }
  return patterns;
}

// --admin|--data|…: options whose value is the next word.
std::string value_options(const std::vector<Place>& places) {
  std::set<std::string> names;
  for (const Place& place : places) {
    for (const Word& word : place.words) {
      if (word.takes_value) names.insert(word.text);
    }
  }
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : "|") + name;
  return joined;
}

std::string bash_script(const std::vector<Place>& places) {
  std::string script =
      "# bash completion of outlast: source <(outlast completion bash)\n"
      "_outlast() {\n"
      "  local here='' words='' i\n"
      "  case \"${COMP_WORDS[COMP_CWORD - 1]}\" in\n"
      "    " +
      value_options(places) +
      ") COMPREPLY=(); return ;;\n"
      "  esac\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$here ${COMP_WORDS[i]}\" in\n"
      "      " +
      path_patterns(places, "|") +
      ") here=\"$here ${COMP_WORDS[i]}\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case \"$here\" in\n";
  for (const Place& place : places) {
    std::string words;
    for (const Word& word : place.words) words += (words.empty() ? "" : " ") + word.text;
    script += "    " + shell_quoted(place.path) + ") words=" + shell_quoted(words) + " ;;\n";
  }
  return script +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o default -F _outlast outlast\n";
}

std::string zsh_script(const std::vector<Place>& places) {
  std::string script =
      "#compdef outlast\n"
      "# zsh completion of outlast: source <(outlast completion zsh)\n"
      "_outlast() {\n"
      "  local here='' i\n"
      "  local -a choices\n"
      "  case \"${words[CURRENT - 1]}\" in\n"
      "    " +
      value_options(places) +
      ") _files; return ;;\n"
      "  esac\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    case \"$here ${words[i]}\" in\n"
      "      " +
      path_patterns(places, "|") +
      ") here=\"$here ${words[i]}\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case \"$here\" in\n";
  for (const Place& place : places) {
    script += "    " + shell_quoted(place.path) + ") choices=(";
    for (const Word& word : place.words) {
      std::string description;
      for (const char c : word.description)
        description += c == ':' ? std::string("\\:") : std::string(1, c);
      script += " " + shell_quoted(word.text + ":" + description);
    }
    script += " ) ;;\n";
  }
  return script +
         "  esac\n"
         "  _describe outlast choices || _files\n"
         "}\n"
         "compdef _outlast outlast\n";
}

std::string fish_script(const std::vector<Place>& places) {
  std::string script =
      "# fish completion of outlast: outlast completion fish | source\n"
      "function __outlast_here\n"
      "  set -l here ''\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$here $word\"\n"
      "      case " +
      path_patterns(places, " ") +
      "\n"
      "        set here \"$here $word\"\n"
      "    end\n"
      "  end\n"
      "  test \"$here\" = \"$argv[1]\"\n"
      "end\n";
  for (const Place& place : places) {
    for (const Word& word : place.words) {
      const std::string condition = "__outlast_here \"" + place.path + "\"";
      script += "complete -c outlast -n " + shell_quoted(condition);
      script += word.text.starts_with("--")
                    ? " -l " + word.text.substr(2) + (word.takes_value ? " -r" : "")
                    : " -f -a " + word.text;
      script += " -d " + shell_quoted(word.description) + "\n";
    }
  }
  return script;
}

}  // namespace

void add_completion_command(CommandLine& line) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command =
      line.add_command(line.app, "completion", "prints a script that completes commands in a shell",
                       [&line, shell]() -> Result<void> {
                         std::vector<Place> places;
                         collect_places(line.app, "", places);
                         print(*shell == "bash"  ? bash_script(places)
                               : *shell == "zsh" ? zsh_script(places)
                                                 : fish_script(places));
                         return {};
                       });
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
}

}  // namespace outlast::apps
