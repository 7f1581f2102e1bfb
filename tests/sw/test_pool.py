"""Pools of processes and of Dask workers: the same results in the same order, errors, what is refused."""

import functools
import operator
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from distributed import LocalCluster

from vitforge.cli import main
from vitforge_sw import pool as pools
from vitforge_sw.pool import pool

leave = functools.partial(exec, "import os; os._exit(1)")  # called with two dicts


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers, each a process of one thread."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


def test_every_call_has_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pool(10) as run:
            assert list(run.map(lambda shared, item: (shared, item, torch.get_num_threads()), [1])) == [(10, 1, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("where", ["here", "processes", "hosts"])
def test_results_and_errors(where, request):
    scheduler = request.getfixturevalue("cluster").scheduler_address if where == "hosts" else None
    with pool(60, 2 if where == "processes" else 1, scheduler) as run:
        assert run.count == (1 if where == "here" else 2)
        assert list(run.map(operator.sub, range(20))) == list(range(60, 40, -1))
        with pytest.raises(ZeroDivisionError):
            list(run.map(operator.floordiv, [1, 0]))


@pytest.mark.parametrize("where", ["processes", "hosts"])
def test_the_search_gives_the_same_answer(where, digits, cluster, tmp_path, capsys):
    base = ["search", digits.paths.model, "--checkpoint", digits.paths.checkpoint, "--calib", digits.paths.calib]
    argv = [str(a) for a in (*base, "--limit", 8, "--budget", 6, "--finalists", 2)]
    there = ["--processes", "2"] if where == "processes" else ["--scheduler", cluster.scheduler_address]
    for name, how in (("a", ["--processes", "1"]), ("b", there)):
        assert main([*argv, *how, "-o", str(tmp_path / f"{name}.json")]) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    printed = capsys.readouterr().out
    assert all(f"noise of 24 layers, one by one, {count} at a time" in printed for count in (1, 2))
    assert main([*argv, "--processes", "2", "--scheduler", "h:1", "-o", str(tmp_path / "c.json")]) == 2
    assert "--processes and --scheduler exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["processes", "hosts"])
def test_a_lost_process_is_one_line(where):
    if where == "processes":
        with pytest.raises(ValueError, match="one of 2 processes was killed"), pool({}, 2) as run:
            list(run.map(leave, [{}, {}]))
        return
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as alone:
        with pytest.raises(ValueError, match="lost its workers"), pool({}, 1, alone.scheduler_address) as run:
            list(run.map(leave, [{}, {}]))


def test_children_end_with_a_killed_parent(tmp_path):
    code = (
        "import operator, time\nfrom vitforge_sw.pool import pool\n"
        "if __name__ == '__main__':\n"
        "    with pool(1, 2) as run:\n"
        "        list(run.map(operator.add, [1, 2]))\n"
        "        import multiprocessing\n"
        "        print(*[c.pid for c in multiprocessing.active_children()], flush=True)\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in children):
            return
        time.sleep(0.1)
    pytest.fail("children outlive their parent")


def test_refusals(cluster, monkeypatch):
    monkeypatch.setattr(pools, "PATIENCE", 1)
    with pytest.raises(ValueError, match="no Dask scheduler answers at 127.0.0.1:9"), pool(0, 1, "127.0.0.1:9"):
        pass
    with pytest.raises(ValueError, match=r"answers at host:port \(HOST:PORT\)"), pool(0, 1, "host:port"):
        pass
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as many:
        with pytest.raises(ValueError, match="must have --nthreads 1, not 2"), pool(0, 1, many.scheduler_address):
            pass
    with LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as empty:
        with pytest.raises(ValueError, match="must have workers"), pool(0, 1, empty.scheduler_address):
            pass
    monkeypatch.setattr(torch, "__version__", "0.1")
    with pytest.raises(ValueError, match="torch 0.1, as here, not sources .*, torch 2"):
        with pool(0, 1, cluster.scheduler_address):
            pass
