"""A bundle's last layer learns on scans without labels: by reward (PPO), or by its own confident answers.

One step is one scan: the state is the scan, the action a label for every island, the reward how valid each label is.
There is no next state, so that the advantage is the reward less the mean reward of other draws for the same island.
Leaving the start costs: the divergence of every island's answer from what the bundle said is part of the loss.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.adaptation.islands import ScanIslands, coronary_classes
from training.adaptation.reward import RewardNetwork

LEAST_P = 1e-6


@dataclass(frozen=True)
class PolicyRecipe:
    """How the last layer moves.

    Parameters
    ----------
    method
        "ppo", or "self-training": islands whose likeliest label has `confident` and that the reward network finds valid
        teach themselves
    rounds
        Times that every scan is drawn.
    draws
        Labelings drawn of a scan.
    epochs
        Steps on the same draws.
    clip
        Of the ratio of new to old probability, as PPO clips it.
    entropy, divergence
        Weights of the entropy and of the divergence from the start.
    learning_rate
        Of AdamW.
    confident
        See `method`.
    most_divergence
        Mean divergence from the start, nats an island, at which adapting ends.
    most_lost
        Accuracy on the labeled sliver that may be lost before adapting ends, and what was before it is taken.
    """

    method: Literal["ppo", "self-training"] = "ppo"
    rounds: int = 20
    draws: int = 8
    epochs: int = 4
    clip: float = 0.2
    entropy: float = 0.01
    divergence: float = 0.1
    learning_rate: float = 3e-3
    confident: float = 0.9
    most_divergence: float = 0.5
    most_lost: float = 0.01

    def __post_init__(self) -> None:
        if min(self.rounds, self.epochs) < 1 or self.draws < 2:
            raise ValueError(
                f"rounds and epochs must be at least 1 and draws 2, got {self.rounds}, {self.epochs}, {self.draws}"
            )
        if not 0 < self.clip < 1:
            raise ValueError(f"clip must lie between 0 and 1, got {self.clip}")


class Policy(nn.Module):
    """The last layer of a vessel network, over features that do not move.

    Parameters
    ----------
    head
        `UNet.head`, a 1x1 convolution.
    """

    def __init__(self, head: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(head.weight.detach()[:, :, 0, 0].clone())
        self.bias = nn.Parameter(head.bias.detach().clone())

    def forward(self, islands: ScanIslands) -> torch.Tensor:
        """(islands, classes) mean probability over the voxels of each, as `heartlens.networks.islands` votes."""
        features = torch.from_numpy(islands.features)
        p = torch.softmax(features @ self.weight.T + self.bias, dim=1)
        index = torch.from_numpy(islands.island)
        summed = torch.zeros(len(islands), p.shape[1]).index_add(0, index, p)
        return summed / torch.bincount(index, minlength=len(islands))[:, None]

    def votes(self, islands: ScanIslands) -> NDArray[np.float64]:
        """The same as an array."""
        with torch.no_grad():
            vote: NDArray[np.float64] = self(islands).double().numpy()
        return vote

    def put_into(self, head: nn.Conv2d) -> None:
        """Make a network's last layer this one."""
        with torch.no_grad():
            head.weight.copy_(self.weight[:, :, None, None])
            head.bias.copy_(self.bias)


@dataclass(frozen=True)
class Round:
    """What one pass over the scans did.

    Parameters
    ----------
    reward
        Mean validity of the likeliest labels.
    divergence
        From the start, nats an island.
    kept
        Accuracy on the labeled sliver.
    """

    reward: float
    divergence: float
    kept: float


def adapt(
    start: Policy,
    targets: Sequence[ScanIslands],
    sliver: Sequence[ScanIslands],
    reward: RewardNetwork,
    recipe: PolicyRecipe,
    *,
    seed: int = 0,
    deadline: float | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> tuple[Policy, list[Round], str]:
    """Move a policy toward labels that are valid on scans that nobody labeled.

    Parameters
    ----------
    start
        The bundle's; it is left as it is.
    targets
        Scans to adapt to; their labels are not looked at.
    sliver
        Labeled scans from where the bundle was trained, which must not get worse.
    reward
        See `training.adaptation.reward`.
    recipe
        How.
    seed
        Of the draws.
    deadline
        Seconds of `time.monotonic` after which no round is begun.
    on_round
        Hears every round.

    Returns
    -------
    policy : Policy
        Of the last round that was allowed.
    rounds : list[Round]
        Of the start, and of each round.
    ended : str
        Why it ended before its rounds were over; empty where it did not
    """
    scans = [scan.without_labels() for scan in targets if len(scan)]
    if not scans:
        raise ValueError("expected a scan with an island to adapt to, got none")
    policy, best = copy.deepcopy(start), copy.deepcopy(start)
    optimizer = torch.optim.AdamW(policy.parameters(), recipe.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng([seed, 13])
    at_start = [torch.from_numpy(start.votes(scan)).float() for scan in scans]
    update = _by_reward if recipe.method == "ppo" else _by_confidence
    rounds = [_round(policy, scans, at_start, sliver, reward)]
    for _ in range(recipe.rounds):
        if deadline is not None and time.monotonic() > deadline:
            return best, rounds, "the time budget is over"
        for n in rng.permutation(len(scans)):
            update(policy, optimizer, scans[n], at_start[n], reward, recipe, rng)
        now = _round(policy, scans, at_start, sliver, reward)
        rounds.append(now)
        if on_round is not None:
            on_round(now)
        if now.divergence > recipe.most_divergence:
            return best, rounds, f"it left the start by {now.divergence:.2f} nats an island"
        if now.kept < rounds[0].kept - recipe.most_lost:
            return best, rounds, f"on labeled scans {rounds[0].kept - now.kept:.3f} of accuracy was lost"
        best = copy.deepcopy(policy)
    return best, rounds, ""


def _round(
    policy: Policy,
    scans: Sequence[ScanIslands],
    at_start: Sequence[torch.Tensor],
    sliver: Sequence[ScanIslands],
    reward: RewardNetwork,
) -> Round:
    votes = [policy.votes(scan) for scan in scans]
    valid = np.concatenate([reward.judge(scan, vote.argmax(axis=1)) for scan, vote in zip(scans, votes, strict=True)])
    pairs = zip(votes, at_start, strict=True)
    divergence = np.concatenate([_divergence(torch.from_numpy(v).float(), s).numpy() for v, s in pairs])
    return Round(float(valid.mean()), float(divergence.mean()), accuracy(policy, sliver, reward.classes))


def accuracy(policy: Policy, scans: Sequence[ScanIslands], classes: Sequence[str]) -> float:
    """Share of labeled islands that are, or are called, coronary whose likeliest class is right; nan without any.

    Parameters
    ----------
    policy
        To be judged.
    scans
        Labeled.
    classes
        Of the bundle, "none" first.
    """
    is_coronary = coronary_classes(classes)
    right, asked = 0, 0
    for scan in scans:
        said = policy.votes(scan).argmax(axis=1)
        known = (scan.code >= 0) & (is_coronary[scan.code] | is_coronary[said])
        right, asked = right + int((said == scan.code)[known].sum()), asked + int(known.sum())
    return right / asked if asked else float("nan")


def _divergence(now: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """(islands,) Kullback-Leibler divergence of answers from what the start said, nats."""
    now, start = now.clamp_min(LEAST_P), start.clamp_min(LEAST_P)
    return (now * (now.log() - start.log())).sum(dim=1)


def _by_reward(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    scan: ScanIslands,
    start: torch.Tensor,
    reward: RewardNetwork,
    recipe: PolicyRecipe,
    rng: np.random.Generator,
) -> None:
    """PPO on one scan: `draws` labelings, `epochs` steps on them."""
    old = policy.votes(scan)
    edges = np.cumsum(old / old.sum(axis=1, keepdims=True), axis=1)
    drawn = rng.random((recipe.draws, len(scan), 1))
    actions = np.minimum((drawn > edges[None]).sum(axis=2), old.shape[1] - 1)
    rewards = np.stack([reward.judge(scan, action) for action in actions])
    # The mean of the other draws, so that what an action is held against does not hold the action itself.
    others = (rewards.sum(axis=0) - rewards) / (recipe.draws - 1)
    advantage = torch.from_numpy(rewards - others).float()
    chosen = torch.from_numpy(actions)
    old_log = torch.from_numpy(old).float().clamp_min(LEAST_P).log().gather(1, chosen.T).T
    for _ in range(recipe.epochs):
        p = policy(scan).clamp_min(LEAST_P)
        ratio = (p.log().gather(1, chosen.T).T - old_log).exp()
        clipped = ratio.clamp(1 - recipe.clip, 1 + recipe.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        entropy = -(p * p.log()).sum(dim=1).mean()
        loss = -gain - recipe.entropy * entropy + recipe.divergence * _divergence(p, start).mean()
        _step(policy, optimizer, loss)


def _by_confidence(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    scan: ScanIslands,
    start: torch.Tensor,
    reward: RewardNetwork,
    recipe: PolicyRecipe,
    rng: np.random.Generator,
) -> None:
    """Self-training on one scan: cross-entropy with its own answers, where they are confident and valid."""
    vote = policy.votes(scan)
    said = vote.argmax(axis=1)
    kept = (vote.max(axis=1) >= recipe.confident) & (reward.judge(scan, said) >= 0.5)
    if not kept.any():
        return
    p = policy(scan).clamp_min(LEAST_P)
    taught = nn.functional.nll_loss(p.log()[torch.from_numpy(kept)], torch.from_numpy(said[kept]))
    _step(policy, optimizer, taught + recipe.divergence * _divergence(p, start).mean())


def _step(policy: Policy, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
    optimizer.step()
