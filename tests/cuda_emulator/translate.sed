# What of CUDA's language is not C++: launches, and the memory that a launch asks for.
s/([A-Za-z_][A-Za-z_0-9:]*(<[^<>]*>)?)<<<(.*)>>>\(/cuda_emulator::Launcher({\3}, [=](auto... emulated) { \1(emulated...); })(/
s/extern __shared__ (__align__\([0-9]+\) )?([a-z ]+) ([a-z_]+)\[\];/auto* const \3 = reinterpret_cast<\2*>(cuda_emulator::dynamic_shared());/
