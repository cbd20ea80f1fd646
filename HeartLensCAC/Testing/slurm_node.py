"""A real SLURM of one node for tests, on loopback, in a network of its own: controller, node and munge from Debian.

Nothing of the system's own SLURM is used or changed: configuration, key, state and sockets lie in one folder. Control
groups are not needed: processes are followed by their parents (proctrack/linuxproc).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "squeue", "scancel")
SYSTEM = f"{os.environ['PATH']}:/usr/sbin:/sbin"
TRIES, PAUSE_S = 120, 0.5

CONFIG = """
ClusterName=heartlens
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
KillWait=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=here NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=short Nodes=here Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What is not installed here."""
    what = [name for name in (*PROGRAMS, "ip", "unshare") if shutil.which(name, path=SYSTEM) is None]
    return ", ".join(what)


class Slurm:
    """One node that takes jobs until it is ended.

    Parameters
    ----------
    place : for its files
    cpus : jobs of one core at once
    """

    def __init__(self, place: Path, cpus: int = 2) -> None:
        self.place = place
        for name in ("state", "spool", "munge"):
            (place / name).mkdir(parents=True, mode=0o700)
        key = place / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        host = socket.gethostname().partition(".")[0]
        config = place / "slurm.conf"
        config.write_text(CONFIG.format(place=place, host=host, cpus=cpus, memory_mb=memory_mb - 512))
        # Where loopback has one address alone, getaddrinfo finds none for the name of this computer.
        subprocess.run(["ip", "address", "add", "127.0.0.2/8", "dev", "lo"], env={"PATH": SYSTEM}, check=False)
        self.environment = {**os.environ, "PATH": SYSTEM, "SLURM_CONF": str(config)}
        munge = [f"--{name}-file={place}/munge/{name}" for name in ("key", "pid", "seed", "log")]
        self._processes = [self._start("munged", "--foreground", "--force", f"--socket={place}/munge/socket", *munge)]
        self._wait(lambda: (place / "munge" / "socket").exists(), "munge")
        self._processes.append(self._start("slurmctld", "-D", "-f", str(config)))
        self._processes.append(self._start("slurmd", "-D", "-N", "here", "-f", str(config)))
        self._wait(lambda: self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle", "SLURM")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.place / "output.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, start_new_session=True)

    def _wait(self, what, name: str) -> None:
        for _ in range(TRIES):
            if what():
                return
            time.sleep(PAUSE_S)
        raise TimeoutError(f"{name} does not answer: {(self.place / 'output.log').read_text()[-2000:]}")

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints."""
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        return run.stdout

    def wait_for_jobs(self, seconds: float) -> None:
        """Until none is in the queue."""
        end = time.monotonic() + seconds
        while self.ask("squeue", "--noheader").strip():
            assert time.monotonic() < end, self.ask("squeue")
            time.sleep(PAUSE_S)

    def end(self) -> None:
        """Cancel what runs, and stop."""
        self.ask("scancel", "--user=root")
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
