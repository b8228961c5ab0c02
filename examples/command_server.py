#!/usr/bin/env python3
"""Serve a few commands to one client at a time: quit, date, who, cookie, motd."""

import argparse
import sys
import time

import hornpipe as hp

PROGRAMS = {
    "who": hp.cmd("who"),
    "cookie": hp.cmd("/usr/games/fortune"),
    "motd": hp.cmd("cat", "/etc/motd"),
}


def obey(client: hp.Connection[str]) -> None:
    """Prompt and answer; nothing that the client says becomes a part of a command."""
    print("Welcome; type help for command list.", file=client)
    client.write("Command? ")
    for line in client:
        match line.strip().lower():
            case "":
                pass
            case "quit" | "exit":
                break
            case "date" | "time":
                print(time.ctime(), file=client)
            case "who" | "cookie" | "motd" as name:
                said = PROGRAMS[name].with_options(env_base="minimal", stderr=hp.STDOUT, check=False, timeout=10)
                client.write(said.read())
            case _:
                print("Commands: quit date who cookie motd", file=client)
        client.write("Command? ")


def main() -> None:
    """Somebody who never speaks does not keep the others waiting for ever."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: interactive_client.py localhost 9000")
    parser.add_argument("address", nargs="?", default="tcp://:9000", help="default: tcp://:9000, every interface")
    try:
        server = hp.Server(
            parser.parse_args().address,
            obey,
            model="inline",
            newline="\r\n",
            idle_timeout=300,
            ready=lambda: print(f"[{server} is accepting clients]", flush=True),
        )
        server.run()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
