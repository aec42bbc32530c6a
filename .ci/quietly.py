"""Run a command that takes long: one line with the time that has passed instead of its output.

``python quietly.py LOG SENTENCE COMMAND...``. The output goes to LOG; if the command fails its end is
shown. Only the standard library, and Python 3.8 is enough, since this runs before anything is installed.
"""

import subprocess
import sys
import time


def main() -> int:
    """Run it; returns the command's exit code."""
    log_path, sentence, *command = sys.argv[1:]
    live = sys.stderr.isatty()
    print(sentence, file=sys.stderr, flush=True)
    start = time.monotonic()
    with open(log_path, "w", encoding="utf-8", errors="replace") as log:  # noqa: PTH123
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while True:
                passed = int(time.monotonic() - start)
                if live:
                    print(f"\r  {passed // 60}:{passed % 60:02d} ", end="", file=sys.stderr, flush=True)
                try:
                    code = process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    pass
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            print("\nStopped. Running make again goes on.", file=sys.stderr)
            return 130
    if live:
        print("done" if code == 0 else "failed", file=sys.stderr)
    if code:
        with open(log_path, encoding="utf-8", errors="replace") as log:  # noqa: PTH123
            sys.stderr.writelines(log.readlines()[-30:])
        print(f"\nThat did not work. Everything it said is in {log_path}.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
