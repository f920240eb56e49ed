"""Students from the command line: a narrow task is learned, tested and served, by a worker that may be stopped and killed."""

import json
import os
import shutil
import signal
import subprocess
import threading

import pytest

from outlast_node import BIN, wait_for

DEADLINE_S = 170  # the goal is below three minutes on two cores; such a run takes 15 s of one
RIGHT_SHARE = 0.95
CHANCE = 1 / 20


def outlast(*arguments, check=True, stdin=None):
    done = subprocess.run([str(BIN / "outlast"), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, input=stdin)
    if check:
        assert done.returncode == 0, f"outlast {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def events_of(text, kind):
    return [event for event in map(json.loads, text.splitlines()) if event["event"] == kind]


def rest_of(child):
    """What it has yet to say, when lines of it were read: communicate() loses what Python has read ahead."""
    watchdog = threading.Timer(DEADLINE_S, child.kill)
    watchdog.start()
    output, errors = child.stdout.read(), child.stderr.read()
    child.wait()
    watchdog.cancel()
    return output, errors


def questions(path, count):
    return [json.loads(line)["messages"] for line in path.read_text().splitlines()[:count]]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    outlast("sample-task", folder)
    return folder


@pytest.fixture(scope="module")
def student(task, tmp_path_factory):
    """(its folder, the events of its training)."""
    folder = tmp_path_factory.mktemp("student") / "student"
    done = outlast("train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--to", folder, "--epochs", 6, "--eval-every", 250, "--json")
    return folder, done.stdout


def train_command(task, folder, *more, steps=600):
    """Long enough not to be over before a signal arrives."""
    return ["train", task / "train.jsonl", "--to", folder, "--steps", steps, "--batch", 16, "--threads", 1, "--save-every", 20, *more]


def test_a_narrow_task_is_learned_from_chance_to_ninety_five_of_a_hundred(task, student, tmp_path):
    folder, output = student
    steps = events_of(output, "step")
    assert [event["step"] for event in steps] == list(range(1, len(steps) + 1))
    assert all(0 < event["mfu"] <= 1 and event["memory_bytes"] > 0 and event["tokens_per_second"] > 0 for event in steps)
    assert steps[0]["loss"] > 5 > 0.5 > steps[-1]["loss"]
    plan = events_of(output, "plan")[0]
    assert plan["samples"] == 4000 and plan["held_out_samples"] == 500
    assert plan["memory_bytes"] > plan["weights_bytes"] > 0
    evaluations = events_of(output, "evaluation")
    assert evaluations[-1]["exact"] >= RIGHT_SHARE, evaluations
    assert events_of(output, "done")
    untrained = outlast("train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--to", tmp_path / "new", "--steps", 1, "--json")
    assert events_of(untrained.stdout, "evaluation")[-1]["exact"] <= 2 * CHANCE


def test_a_student_is_evaluated_and_a_worse_one_is_told_by_the_exit_code(task, student):
    folder, output = student
    best = max(event["exact"] for event in events_of(output, "evaluation"))
    done = outlast("eval", folder, task / "held-out.jsonl", "--json")
    assert json.loads(done.stdout)["exact"] == best  # the best of the run is what was kept
    assert outlast("eval", folder, task / "held-out.jsonl", "--at-least", RIGHT_SHARE).returncode == 0
    assert outlast("eval", folder, task / "held-out.jsonl", "--at-least", 1, check=False).returncode == 6


def test_an_evaluation_tells_how_far_it_is_and_is_interrupted(task, student, tmp_path):
    folder, _ = student
    (tmp_path / "many.jsonl").write_text((task / "train.jsonl").read_text() * 20)
    child = subprocess.Popen([str(BIN / "outlast"), "eval", str(folder), str(tmp_path / "many.jsonl"), "--threads", "1", "--rows", "256"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = child.stderr.readline()
    assert "evaluates 0/80000 samples" in told
    child.send_signal(signal.SIGINT)
    output, errors = rest_of(child)
    assert child.returncode == 7 and "stopped after" in errors and output == "", errors


def test_answers_are_what_the_evaluation_says_they_are(task, student):
    folder, _ = student
    asked = questions(task / "held-out.jsonl", 100)
    prompts = "\n".join(messages[0]["content"] for messages in asked)
    done = outlast("generate", folder, "--prompts", "-", "--json", stdin=prompts)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["prompt"] for answer in answers] == list(range(100))
    assert all(answer["finish_reason"] == "stop" and answer["log_probability"] <= 0 for answer in answers)
    right = sum(answer["text"] == messages[1]["content"] for answer, messages in zip(answers, asked))
    assert right >= 90
    # All prompts begin alike: what was computed for one is not computed again for all others.
    alone = [json.loads(outlast("generate", folder, messages[0]["content"], "--json").stdout)["text"] for messages in asked[:3]]
    assert alone == [answer["text"] for answer in answers[:3]]


def test_answers_stay_within_labels_and_schemas_whatever_is_asked(task, student, tmp_path):
    folder, _ = student
    labels = (task / "labels.txt").read_text().split()
    for seed in range(3):
        done = outlast("generate", folder, "tell me a story", "--labels", task / "labels.txt", "--temperature", 5, "--seed", seed)
        assert done.stdout.rstrip("\n") in labels
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({
        "type": "object", "required": ["kind", "sure"], "additionalProperties": False,
        "properties": {"kind": {"enum": labels}, "sure": {"type": "boolean"}},
    }))
    for seed in range(3):
        done = outlast("generate", folder, "my parcel is late", "--json-schema", schema, "--temperature", 2, "--seed", seed)
        answer = json.loads(done.stdout)
        assert answer["kind"] in labels and isinstance(answer["sure"], bool)
    schema.write_text('{"type": "string", "pattern": "a*"}')
    refused = outlast("generate", folder, "x", "--json-schema", schema, check=False)
    assert refused.returncode == 1 and "pattern" in refused.stderr


def test_a_run_that_is_interrupted_goes_on_to_the_very_same_student(task, tmp_path):
    outlast(*train_command(task, tmp_path / "whole"))
    command = [str(BIN / "outlast"), *map(str, train_command(task, tmp_path / "stopped", "--json"))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == "step" and event["step"] == 10:
            child.send_signal(signal.SIGINT)
            break
    _, errors = rest_of(child)
    assert child.returncode == 7 and "--resume" in errors, errors
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    again = outlast(*train_command(task, tmp_path / "stopped"), check=False)
    assert again.returncode == 1 and "--resume" in again.stderr  # it does not begin anew by itself
    outlast(*train_command(task, tmp_path / "stopped", "--resume"))
    assert (tmp_path / "stopped/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_in_the_folder_of_another_one_is_refused(task, tmp_path, ranks):
    command = [*train_command(task, tmp_path / "student", "--tokenizer", tmp_path / "tokenizer.json", steps=100_000), "--ranks", ranks]
    outlast("tokenizer", "train", task / "train.jsonl", "--to", tmp_path / "tokenizer.json", "--vocabulary", 512)
    child = subprocess.Popen([str(BIN / "outlast"), *map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in child.stdout:
        if json.loads(line)["event"] == "step":
            break
    for more in ([], ["--resume"]):
        refused = outlast(*command, *more, check=False)
        assert refused.returncode == 1 and ("is another run's that goes on now" in refused.stderr or "has checkpoints of an earlier run" in refused.stderr), refused.stderr
    child.send_signal(signal.SIGINT)
    _, errors = rest_of(child)
    assert child.returncode == 7, errors
    assert sorted(entry.name for entry in (tmp_path / "student").iterdir()) == ["checkpoints"]


def test_output_that_cannot_be_written_fails_the_command(task, student):
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(BIN / "outlast"), "generate", str(student[0]), "hello"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1 and "cannot write to stdout: No space left on device" in done.stderr


def test_an_evaluation_tells_that_samples_were_cut_and_that_weights_are_broken(task, student, tmp_path):
    folder, _ = student
    lines = (task / "held-out.jsonl").read_text().splitlines()[:20]
    for number, line in enumerate(lines):
        messages = json.loads(line)["messages"]
        messages[0]["content"] = "so " * 100 + messages[0]["content"]
        lines[number] = json.dumps({"messages": messages})
    (tmp_path / "long.jsonl").write_text("\n".join(lines) + "\n")
    done = outlast("eval", folder, tmp_path / "long.jsonl", "--positions", 64)
    assert "20 samples are longer than --positions or --rows allow, and lose their beginning" in done.stderr
    shutil.copytree(folder, tmp_path / "broken", ignore=shutil.ignore_patterns("checkpoints"))
    weights = bytearray((tmp_path / "broken/model.safetensors").read_bytes())
    weights[-4:] = b"\x00\x00\xc0\x7f"  # NaN
    (tmp_path / "broken/model.safetensors").write_bytes(weights)
    broken = outlast("eval", tmp_path / "broken", task / "held-out.jsonl", check=False)
    assert broken.returncode == 1 and "its weights are broken" in broken.stderr, broken.stderr


def test_a_run_that_gets_no_better_says_that_it_ends_early(task, tmp_path):
    done = outlast("train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--to", tmp_path / "student", "--steps", 1000, "--rate", 1e-30,
                   "--eval-every", 10, "--patience", 2)
    assert "ended early: 2 evaluations without a better one" in done.stderr, done.stderr


def test_the_best_of_a_run_is_kept_whenever_it_goes_on(task, tmp_path):
    # Held out are messages with other messages' labels: the more it learns, the worse it is at them.
    held_out = [json.loads(line)["messages"] for line in (task / "held-out.jsonl").read_text().splitlines()[:200]]
    kinds = (task / "labels.txt").read_text().split()
    for messages in held_out:
        messages[1]["content"] = kinds[(kinds.index(messages[1]["content"]) + 7) % len(kinds)]
    (tmp_path / "held-out.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in held_out))
    folder = tmp_path / "student"
    command = ["train", task / "train.jsonl", "--held-out", tmp_path / "held-out.jsonl", "--to", folder, "--steps", 300, "--threads", 1,
               "--eval-every", 25, "--json"]

    def kept(output):
        return next(event["step"] for event in events_of(output, "note") if "steps_done" in event)
    step = kept(outlast(*command).stdout)
    assert step < 300
    student = (folder / "model.safetensors").read_bytes()
    assert kept(outlast(*command, "--resume").stdout) == step
    assert (folder / "model.safetensors").read_bytes() == student


@pytest.fixture(scope="module")
def model(task, tmp_path_factory):
    """A small model that knows the customers' words, and calls each kind by another's name."""
    folder = tmp_path_factory.mktemp("model")
    kinds = (task / "labels.txt").read_text().split()
    samples = questions(task / "train.jsonl", 4000)
    for messages in samples:
        messages[1]["content"] = kinds[(kinds.index(messages[1]["content"]) + 7) % len(kinds)]
    (folder / "samples.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in samples))
    outlast("train", folder / "samples.jsonl", "--to", folder / "model", "--epochs", 2)
    return folder / "model"


def lora_command(task, model, folder, *more, steps=300):
    return ["train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--model", model, "--to", folder, "--lora-rank", 8, "--rate", 0.01,
            "--steps", steps, "--threads", 1, "--save-every", 100, *more]


def tensors_of(path):
    """{name: shape} of a safetensors file."""
    data = path.read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def test_an_adapter_of_a_small_model_learns_the_task_and_the_student_has_it_merged(task, model, tmp_path):
    folder = tmp_path / "student"
    before = json.loads(outlast("eval", model, task / "held-out.jsonl", "--json").stdout)["exact"]
    assert before <= 2 * CHANCE
    output = outlast(*lora_command(task, model, folder, "--json")).stdout
    plan = events_of(output, "plan")[0]
    assert 0 < plan["trained_parameters"] < plan["parameters"] / 10
    assert plan["optimizer_bytes"] < plan["weights_bytes"] / 4
    best = events_of(output, "evaluation")[-1]["exact"]
    assert best >= RIGHT_SHARE
    note = events_of(output, "note")[-1]
    assert note["trained_parameters"] == plan["trained_parameters"] and f"{plan['trained_parameters']:.0f} parameters were trained" in note["text"]
    assert json.loads(outlast("eval", folder, task / "held-out.jsonl", "--json").stdout)["exact"] == best
    assert outlast("generate", folder, "my parcel has not come yet", "--labels", task / "labels.txt").stdout.strip()
    # What PEFT wants to find.
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 8 and config["lora_alpha"] == 16 and len(config["target_modules"]) == 7
    tensors = tensors_of(folder / "adapter/adapter_model.safetensors")
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] == [8, 64]
    assert tensors["base_model.model.model.layers.1.mlp.gate_proj.lora_B.weight"] == [192, 8]
    assert sum(rows * columns for rows, columns in tensors.values()) == plan["trained_parameters"]


def test_an_adapter_goes_on_to_the_very_same_student_and_never_from_a_whole_models_checkpoint(task, model, tmp_path):
    some = ["--lora-targets", "q_proj,v_proj,down_proj"]
    outlast(*lora_command(task, model, tmp_path / "whole", *some, steps=120))
    command = lora_command(task, model, tmp_path / "stopped", *some, steps=120)
    child = subprocess.Popen([str(BIN / "outlast"), *map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == "step" and event["step"] == 10:
            child.send_signal(signal.SIGINT)
            break
    _, errors = rest_of(child)
    assert child.returncode == 7 and "--resume" in errors, errors
    without = lora_command(task, model, tmp_path / "stopped", "--resume", steps=120)
    at = without.index("--lora-rank")
    del without[at:at + 2]
    refused = outlast(*without, check=False)
    assert refused.returncode == 1 and "LoRA" in refused.stderr and "learns every weight" in refused.stderr, refused.stderr
    outlast(*command, "--resume")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    changed = outlast(*command[:-1], "q_proj", "--resume", check=False)
    assert changed.returncode == 1 and "other settings: lora.targets was" in changed.stderr, changed.stderr


@pytest.mark.parametrize("arguments, code, words", [
    (["--lora-rank", 8], 2, "--model"),
    (["--model", "MODEL", "--lora-rank", 0], 2, "--lora-rank"),
    (["--model", "MODEL", "--lora-alpha", 8], 2, "--lora-rank"),
    (["--model", "MODEL", "--lora-rank", 8, "--lora-targets", "lm_head"], 2, "lm_head"),
    (["--model", "MODEL", "--lora-rank", 65], 1, "above 64"),
])
def test_an_adapter_that_cannot_be_is_refused(task, model, tmp_path, arguments, code, words):
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    done = outlast("train", task / "train.jsonl", "--to", tmp_path / "x", *arguments, check=False)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def smaller(task, student, tmp_path_factory):
    """A model that knows nothing, with the tokens of the student and one layer less."""
    folder = tmp_path_factory.mktemp("smaller") / "model"
    outlast("train", task / "train.jsonl", "--to", folder, "--tokenizer", student[0] / "tokenizer.json", "--steps", 1)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_smaller_student_learns_from_a_teacher_what_its_own_loss_never_sees(task, student, smaller, tmp_path):
    teacher, _ = student
    before = json.loads(outlast("eval", smaller, task / "held-out.jsonl", "--json").stdout)["exact"]
    assert before <= 2 * CHANCE
    folder = tmp_path / "student"
    command = ["train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--model", smaller, "--to", folder, "--teacher", teacher,
               "--cross-entropy", 0, "--steps", 400, "--json"]
    output = outlast(*command).stdout
    plan = events_of(output, "plan")[0]
    assert plan["parameters"] < plan["teacher_parameters"] and plan["teacher_bytes"] > 4 * plan["teacher_parameters"]
    best = events_of(output, "evaluation")[-1]["exact"]
    assert best >= 0.5, best
    assert json.loads(outlast("eval", folder, task / "held-out.jsonl", "--json").stdout)["exact"] == best
    changed = outlast(*[smaller if argument == teacher else argument for argument in command], "--resume", check=False)
    assert changed.returncode == 1 and "other settings: teacher.num_hidden_layers was 2 and is 1" in changed.stderr, changed.stderr


@pytest.mark.parametrize("arguments, code, words", [
    (["--temperature", 3], 2, "--teacher"),
    (["--loss", "reverse-kl", "--temperature", 3], 2, "--teacher"),
    (["--cross-entropy", 0.3], 2, "--teacher"),
    (["--teacher", "TEACHER", "--beta", 0.3], 2, "--beta goes with --loss jsd"),
    (["--teacher", "TEACHER", "--loss", "jsd", "--alpha", 0.3], 2, "--alpha goes with --loss skew-kl"),
    (["--teacher", "TEACHER", "--loss", "hinge"], 2, "hinge"),
    (["--teacher", "nowhere"], 4, "config.json"),
    (["--loss", "forward-kl", "--tokenizer", "TEACHER/tokenizer.json"], 1, "has what a teacher said"),
    (["--teacher", "TEACHER", "--tokenizer", "OTHER"], 1, "the same tokenizer: token"),
])
def test_a_lesson_that_cannot_be_is_refused(task, student, tmp_path, arguments, code, words):
    outlast("tokenizer", "train", task / "train.jsonl", "--to", tmp_path / "other.json", "--vocabulary", 512)
    arguments = [str(argument).replace("TEACHER", str(student[0])).replace("OTHER", str(tmp_path / "other.json")) for argument in arguments]
    done = outlast("train", task / "train.jsonl", "--to", tmp_path / "x", *arguments, check=False)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert not (tmp_path / "x").exists()


def test_a_worker_that_is_killed_ends_the_command_in_words_and_loses_what_was_not_saved_only(task, tmp_path):
    command = train_command(task, tmp_path / "killed", "--json", steps=100_000)
    child = subprocess.Popen([str(BIN / "outlast"), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in child.stdout:
        if json.loads(line)["event"] == "checkpoint":
            break
    worker = int(subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout)
    os.kill(worker, signal.SIGKILL)
    _, errors = rest_of(child)
    assert child.returncode == 1 and "signal 9" in errors, errors
    again = subprocess.Popen([str(BIN / "outlast"), *map(str, command), "--resume"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = next(event for event in map(json.loads, again.stdout) if event["event"] == "step")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=DEADLINE_S)
    assert first["step"] > 20 and first["step"] % 20 == 1


def test_a_worker_ends_with_the_command_that_started_it(task, tmp_path):
    command = [str(BIN / "outlast"), *map(str, train_command(task, tmp_path / "orphan", steps=100_000))]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def worker_of(parent):
        return subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.strip()
    worker = int(wait_for(lambda: worker_of(child.pid), "the worker to start"))
    child.kill()
    child.wait()

    def ended():
        try:
            return "State:\tZ" in open(f"/proc/{worker}/status").read()
        except OSError:
            return True
    wait_for(ended, "the worker to end")


def losses_of(output):
    return {event["step"]: event["loss"] for event in events_of(output, "step")}


def test_two_ranks_learn_what_one_learns(task, student, tmp_path):
    _, alone = student
    folder = tmp_path / "student"
    output = outlast("train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--to", folder, "--epochs", 6, "--eval-every", 250,
                     "--ranks", 2, "--json").stdout
    assert len(events_of(output, "plan")) == len(events_of(output, "done")) == 1
    assert events_of(output, "plan")[0]["ranks"] == 2
    losses, expected = losses_of(output), losses_of(alone)
    assert list(losses) == list(expected)
    assert all(abs(losses[step] - expected[step]) < 1e-3 for step in range(1, 11)), [(losses[step], expected[step]) for step in range(1, 11)]
    best = max(event["exact"] for event in events_of(output, "evaluation"))
    assert best >= RIGHT_SHARE
    assert json.loads(outlast("eval", folder, task / "held-out.jsonl", "--json").stdout)["exact"] == best


# Which of the workers is the first rank is chance: each is lost once.
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how, why", [(signal.SIGKILL, "the worker ended with signal 9"), (signal.SIGSTOP, "it says nothing")])
def test_a_rank_that_dies_or_hangs_does_not_end_the_run(task, tmp_path, number, how, why):
    command = ["train", task / "train.jsonl", "--held-out", task / "held-out.jsonl", "--to", tmp_path / "student", "--steps", 400, "--eval-every", 100,
               "--devices", "cpu,cpu", "--json"]
    child = subprocess.Popen([str(BIN / "outlast"), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output = ""
    for line in child.stdout:
        output += line
        event = json.loads(line)
        if event["event"] == "step" and event["step"] == 150:
            workers = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout.split()
            os.kill(int(workers[number]), how)
            break
    rest, errors = rest_of(child)
    output += rest
    assert child.returncode == 0, errors
    lost, = events_of(output, "rank_lost")
    assert lost["text"].startswith(f"rank {lost['rank']:.0f} was lost; 1 of 2 go on: ") and lost["text"].endswith(why) and lost["ranks"] == 1
    steps = [event["step"] for event in events_of(output, "step")]
    assert steps == list(range(1, 401))  # each once, whoever told it
    last = events_of(output, "evaluation")[-1]
    assert last["step"] == 400 and last["exact"] >= RIGHT_SHARE
    assert outlast("eval", tmp_path / "student", task / "held-out.jsonl", "--at-least", RIGHT_SHARE).returncode == 0


def test_a_run_that_is_interrupted_goes_on_with_another_number_of_ranks(task, tmp_path):
    command = train_command(task, tmp_path / "student", "--json", steps=300)
    child = subprocess.Popen([str(BIN / "outlast"), *map(str, command), "--ranks", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output = ""
    for line in child.stdout:
        output += line
        event = json.loads(line)
        if event["event"] == "step" and event["step"] == 10:
            child.send_signal(signal.SIGINT)
            break
    rest, errors = rest_of(child)
    assert child.returncode == 7 and "--resume" in errors, errors
    last = events_of(output + rest, "checkpoint")[-1]["step"]
    assert not (tmp_path / "student" / "model.safetensors").exists()
    again = outlast(*command, "--resume", "--ranks", 3).stdout
    assert events_of(again, "note")[0]["text"] == f"goes on after step {last:.0f}"
    assert list(losses_of(again)) == list(range(int(last) + 1, 301))
    alone = outlast(*train_command(task, tmp_path / "alone", "--json", steps=300)).stdout
    losses, expected = {**losses_of(output + rest), **losses_of(again)}, losses_of(alone)
    assert all(abs(losses[step] - expected[step]) < 1e-3 for step in range(1, 21))
    assert abs(losses[300] - expected[300]) < 0.1


@pytest.mark.parametrize("arguments, words", [
    (["--ranks", 2, "--worker", "node/gpu0"], "leave out --ranks or --worker"),
    (["--devices", "cpu,cpu", "--worker", "node/gpu0"], "leave out --devices or --worker"),
    (["--ranks", 2, "--devices", "cpu,cpu"], "--devices"),
    (["--ranks", 17], "1 to 16"),
    (["--devices", ",".join(["cpu"] * 17)], "at most 16 ranks"),
    (["--ranks", 2, "--device", "cuda:0"], "--devices cuda:0,cuda:1"),
    (["--devices", "cpu,cuda:0"], "of one kind"),
])
def test_ranks_that_cannot_be_are_refused(task, tmp_path, arguments, words):
    done = outlast("train", task / "train.jsonl", "--to", tmp_path / "x", *arguments, check=False)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("arguments, code, words", [
    (["train", "nowhere.jsonl", "--to", "x"], 4, "nowhere.jsonl is not a file"),
    (["eval", "nowhere", "nowhere.jsonl"], 4, "config.json"),
    (["generate", "nowhere", "hello"], 4, "config.json"),
    (["tokenizer", "train", "nowhere.txt", "--to", "x.json"], 4, "nowhere.txt is not a file"),
])
def test_what_is_not_there_is_named(arguments, code, words, tmp_path):
    done = subprocess.run([str(BIN / "outlast"), *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.returncode == code and words in done.stderr, done.stderr


def test_a_line_of_samples_that_cannot_be_read_is_named_with_its_number(task, tmp_path):
    lines = (task / "train.jsonl").read_text().splitlines()[:5]
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join([*lines, '{"messages": 7}']) + "\n")
    outlast("tokenizer", "train", task / "train.jsonl", "--to", tmp_path / "tokenizer.json", "--vocabulary", 512)
    done = outlast("train", bad, "--to", tmp_path / "x", "--tokenizer", tmp_path / "tokenizer.json", check=False)
    assert done.returncode == 1 and "line 6" in done.stderr and "messages" in done.stderr


def test_a_run_that_cannot_fit_is_refused_with_the_numbers(task, tmp_path):
    done = outlast("train", task / "train.jsonl", "--to", tmp_path / "x", "--size", "medium", "--rows", 1048576, check=False)
    assert done.returncode == 1 and "MiB free" in done.stderr and "fits" in done.stderr, done.stderr
