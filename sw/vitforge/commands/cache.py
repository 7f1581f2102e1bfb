"""What is kept of slow work (simulation programs, generated Verilog, synthesised blocks): place, size, clean.

The cache is made again when needed: nothing in it is the only copy. VITFORGE_CACHE names another folder,
VITFORGE_CACHE_GB another limit (default 8); beyond it what was unused for the longest time goes.

example: vitforge cache --clean
"""

from .options import table


def arguments(parser) -> None:
    parser.add_argument("--clean", action="store_true", help="remove everything that no running process holds")
    parser.add_argument("--list", action="store_true", help="name every entry with its size, the oldest first")


def run(args, command: str) -> int:
    from vitforge_sim.run.cache import cache_folder, clean, entries, limit

    if args.clean:
        count, freed = clean()
        print(f"{cache_folder()}: {count} entries removed, {freed / 1e6:.1f} MB")
        return 0
    found = entries()
    if args.list:
        print(table([(path.name, f"{size / 1e6:.1f}") for path, size, _ in found], ("entry", "MB"), (1,)))
    total = sum(size for _, size, _ in found)
    print(f"{cache_folder()}: {len(found)} entries, {total / 1e6:.1f} MB of at most {limit() / 1e6:.0f}")
    return 0
