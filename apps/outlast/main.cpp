// outlast: the command line for administrators, services' engineers and researchers.
#include "apps/outlast/command_line.hpp"

int main(int argc, char** argv) { return outlast::apps::run_command_line(argc, argv); }
