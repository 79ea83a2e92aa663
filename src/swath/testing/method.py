"""The tests that a method gets by being named: the contract, proved on a tiny data set."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swath.encoders import SceneModel
from swath.errors import LabelError
from swath.labels import LabelTable, is_unknown
from swath.methods import Batch, Method
from swath.scenes.contract import BandContract
from swath.testing.processes import run_processes
from swath.testing.tiny import BANDS, TinyEncoder, enlarged, state_bytes
from swath.training.checkpoint import Checkpoint, read_tensors
from swath.training.loop import fit
from swath.training.processes import make_accelerator
from swath.training.settings import Settings

__all__ = ["MethodTester"]

SCENES, SIZE, CLASSES = 24, 8, ("water", "forest", "road")


class MethodTester:
    """Tests of one method; subclass it in a test file, name your class, and run pytest.

    Override :meth:`labels` if the method needs another kind of labels than a few present, absent and unknown ones
    (every known one with a confidence and a source), and :meth:`useless_labels` for what it has to refuse.

    Attributes:
        method: The class under test.
        options: Its arguments.
        epochs: Length of the short trainings.
        single_label: Whether to test a method that is for both kinds of labels on single-label ones.

    Example:
        >>> from swath.methods.assume_negative import AssumeNegative
        >>> class TestAssumeNegative(MethodTester):
        ...     method = AssumeNegative
        ...     options = {}
        >>> TestAssumeNegative().test_loss_is_a_finite_scalar_with_a_gradient()
    """

    method: ClassVar[type[Method]]
    options: ClassVar[Mapping[str, Any]] = {}
    epochs: ClassVar[int] = 6
    single_label: ClassVar[bool] = False

    @property
    def exclusive(self) -> bool:
        """Whether the classes of the tests exclude each other."""
        return self.single_label if self.method.exclusive is None else self.method.exclusive

    # What is learned from ------------------------------------------------------------------------------------

    def truth(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """Return which of the three classes is in which of the 24 scenes, (24, 3) of 0 and 1."""
        random = np.random.default_rng(0)
        if self.exclusive:
            classes = random.permutation(np.arange(SCENES) % 3)
            return np.asarray(classes[:, None] == np.arange(3), np.int8)
        truth = random.integers(0, 2, (SCENES, 3)).astype(np.int8)
        truth[np.arange(SCENES), random.integers(0, 3, SCENES)] = 1
        return truth

    def labels(self) -> LabelTable:
        """Return labels of which about a third is unknown; single-label tables hide whole scenes."""
        truth, random = self.truth(), np.random.default_rng(1)
        hidden = random.random(truth.shape) < 0.35
        if self.exclusive:
            hidden[:] = (np.arange(SCENES) % 5 == 0)[:, None]
        else:
            hidden[:4] = [
                [False, True, True],
                [True, False, False],
                [True, True, False],
                [False, False, False],
            ]
        confidence = random.uniform(0.5, 1, truth.shape).astype(np.float32)
        source = random.integers(0, 2, truth.shape).astype(np.int16)
        # Two sources in three say something of a scene, and one in five of them something wrong.
        votes = np.repeat(truth[:, None], 3, axis=1)
        wrong = random.random(votes.shape[:2]) < 0.2
        votes[wrong] = np.roll(votes[wrong], 1, axis=1)
        votes[random.random(votes.shape[:2]) < 0.3] = -1
        return LabelTable(
            CLASSES,
            np.where(hidden, -1, truth),
            exclusive=self.exclusive,
            confidence=confidence,
            source=source,
            sources=("map", "eye", "volunteer"),
            votes=votes,
            scores=(truth + random.normal(0, 0.4, truth.shape)).astype(np.float32),
            columns={"domain": np.arange(SCENES) % 2, "context": self.truth().argmax(axis=1)},
        )

    def useless_labels(self) -> Sequence[LabelTable]:
        """Return tables that the method has to refuse: those without any known label."""
        return [LabelTable(CLASSES, np.full((SCENES, 3), -1, np.int8), exclusive=self.exclusive)]

    def images(self) -> Tensor:
        """Return (24, 2, 8, 8) images in which each class shows: bright, striped, or bright in the second band."""
        random = np.random.default_rng(2)
        images = random.normal(0, 0.3, (SCENES, BANDS, SIZE, SIZE)).astype(np.float32)
        for scene, (water, forest, road) in enumerate(self.truth()):
            images[scene, 0] += water
            images[scene, :, ::2] += 2 * forest
            images[scene, 1] -= road
        return torch.from_numpy(images)

    def model(self, classes: tuple[str, ...] = CLASSES) -> SceneModel:
        """Return a new tiny network, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            contract = BandContract(("red", "green"), classes=classes, exclusive=self.exclusive)
            return SceneModel(TinyEncoder(), contract, name="tiny", size=SIZE)

    # How it is trained here: by hand, so that every number can be compared ---------------------------------------

    def started(self, labels: LabelTable | None = None) -> tuple[Method, SceneModel]:
        """Return a method that has been started, and its network."""
        method, model = self.method(**self.options), self.model()
        method.epochs = self.epochs
        method.start(self.labels() if labels is None else labels, model)
        return method, model

    def batches(self, epoch: int, labels: LabelTable) -> Iterator[Batch]:
        """Yield the three batches of an epoch."""
        images = self.images()
        for rows in np.array_split(np.random.default_rng(epoch).permutation(SCENES), 3):
            yield self.batch(rows, labels, images)

    def batch(self, rows: np.ndarray[Any, Any], labels: LabelTable, images: Tensor) -> Batch:
        """Return a batch as the loop makes it."""
        batch = Batch(image=images[rows], index=torch.from_numpy(rows))
        named: dict[str, Any] = {
            "labels": labels.state,
            "confidence": labels.confidence,
            "source": labels.source,
        }
        named |= {"votes": labels.votes, "scores": labels.scores, **labels.columns}
        given = {name: values for name, values in named.items() if values is not None}
        batch.update({name: torch.from_numpy(values[rows]) for name, values in given.items()})
        return batch

    def train(
        self,
        method: Method,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        epochs: range,
        labels: LabelTable | None = None,
        *,
        unknown_codes: bool = False,
    ) -> list[Tensor]:
        """Train for some epochs and return every loss and gradient.

        Args:
            method: A started method.
            model: Its network.
            optimizer: Of the parameters of both.
            epochs: Which epochs, counted from 0.
            labels: The labels, if not the usual ones.
            unknown_codes: Whether unknown labels come with other negative codes than -1.
        """
        labels = self.labels() if labels is None else labels
        seen: list[Tensor] = []
        method.train()
        model.train()
        for epoch in epochs:
            method.epoch = epoch
            for position, batch in enumerate(self.batches(epoch, labels)):
                method.step = 3 * epoch + position
                if unknown_codes:
                    random = np.random.default_rng(method.step)
                    for name in ("labels", "votes"):
                        codes = random.integers(-128, 0, batch[name].shape).astype(np.int8)
                        hidden = is_unknown(batch[name])
                        batch[name] = torch.where(hidden, torch.from_numpy(codes), batch[name])
                torch.manual_seed(method.step)
                loss = method.loss(model, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                method.after_step(model)
                seen.append(loss.detach().clone())
                seen += [value.grad.clone() for value in model.parameters() if value.grad is not None]
            method.after_epoch(epoch, [{"epoch": number} for number in range(epoch + 1)])
        return seen

    def optimizer(self, method: Method, model: nn.Module) -> torch.optim.Optimizer:
        """Return an optimiser for what can be trained."""
        parameters = dict.fromkeys([*model.parameters(), *method.parameters()])
        return torch.optim.AdamW([value for value in parameters if value.requires_grad], lr=0.02)

    # What has to hold ----------------------------------------------------------------------------------------

    def test_loss_is_a_finite_scalar_with_a_gradient(self) -> None:
        """At any batch size, from the first step on, and the batch is left as it was."""
        labels = self.labels()
        for size in (2, 5, SCENES):
            method, model = self.started(labels)
            batch = self.batch(np.arange(size), labels, self.images())
            before = {key: value.clone() for key, value in batch.items()}
            loss = method.loss(model, batch)
            assert loss.shape == ()
            assert loss.dtype == torch.float32
            assert torch.isfinite(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = [value.grad for value in model.parameters() if value.grad is not None]
            assert any(bool(value.any()) for value in gradients)
            assert all(bool(torch.isfinite(value).all()) for value in gradients)
            assert all(torch.equal(batch[key], value) for key, value in before.items())

    def test_what_is_stored_under_unknown_changes_nothing(self) -> None:
        """Other negative codes, confidences and sources there: the same losses, gradients and state, to the bit."""
        labels, random = self.labels(), np.random.default_rng(9)
        hidden = is_unknown(labels.state)
        assert hidden.any()
        confidence, source = _given(labels.confidence).copy(), _given(labels.source).copy()
        confidence[hidden] = random.uniform(0, 1, int(hidden.sum()))
        source[hidden] = random.integers(0, 2, int(hidden.sum()))
        other = dataclasses.replace(
            labels,
            state=np.where(hidden, random.integers(-100, 0, hidden.shape), labels.state),
            confidence=confidence,
            source=source,
        )
        first, second = self.started(labels), self.started(other)
        one = self.train(*first, self.optimizer(*first), range(self.epochs), labels)
        two = self.train(*second, self.optimizer(*second), range(self.epochs), other, unknown_codes=True)
        assert_same(one, two)
        assert_same_state(first, second)

    def test_same_seed_gives_the_same_training(self) -> None:
        """Nothing is drawn but from the seed and the loop's own state."""
        first, second = self.started(), self.started()
        one = self.train(*first, self.optimizer(*first), range(self.epochs))
        torch.rand(3)
        np.random.default_rng().random()
        two = self.train(*second, self.optimizer(*second), range(self.epochs))
        assert_same(one, two)
        assert_same_state(first, second)

    @pytest.mark.parametrize("stop", [1, 4])
    def test_goes_on_exactly_from_a_checkpoint(self, tmp_path: Path, stop: int) -> None:
        """Saved in the middle and restored into new objects, every later number is the same."""
        path = tmp_path / "checkpoint.safetensors"
        first, second = self.started(), self.started()
        one, two = self.optimizer(*first), self.optimizer(*second)
        self.train(*first, one, range(stop))
        Checkpoint(first[1], first[0], one, [], {}).save(path)
        Checkpoint(second[1], second[0], two, [], {}).restore(path)
        assert_same_state(first, second)
        rest = range(stop, self.epochs)
        assert_same(self.train(*first, one, rest), self.train(*second, two, rest))
        assert_same_state(first, second)

    def test_all_state_is_in_buffers(self) -> None:
        """What is in plain attributes would be lost on a resume; names that are declared have to exist."""
        method, model = self.started()
        buffers = dict(method.named_buffers())
        for name in method.per_scene:
            assert len(buffers[name]) == SCENES, f"{name} needs one row for each scene"
        assert set(method.survives_roll_back) <= set(buffers)
        names = {id(part): set(vars(part)) for part in method.modules()}
        self.train(method, model, self.optimizer(method, model), range(self.epochs))
        for part in method.modules():
            loose = [name for name, value in vars(part).items() if isinstance(value, Tensor | np.ndarray)]
            assert not loose, f"{type(part).__name__} keeps {loose} outside its buffers"
            new = set(vars(part)) - names.get(id(part), set(vars(part))) - {"epoch", "step"}
            assert not new, f"{type(part).__name__} gained {new} during training; register buffers in start"

    def test_a_scene_is_remembered_in_about_one_kibibyte(self) -> None:
        """At 60 classes, so that a million scenes fit into 1 GiB; what does not grow with the scenes is not counted."""
        total = []
        for copies in (2, 10):
            labels = enlarged(self.labels(), copies, 20)
            method = self.method(**self.options)
            method.epochs = self.epochs
            method.start(labels, self.model(labels.classes))
            total.append(state_bytes(method))
        assert (total[1] - total[0]) / (8 * SCENES) <= 1100

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        """A tiny set is learned, through the real loop, by the loss of its end: epochs may ask for different things."""
        method = self.method(**self.options)
        trained, _ = self.fit(method, tmp_path, epochs=12)
        whole = self.batch(np.arange(SCENES), self.labels(), self.images())
        networks = self.model(), copy.deepcopy(trained).train()
        before, after = (float(copy.deepcopy(method).train().loss(one, whole).detach()) for one in networks)
        assert after < before

    def test_mixed_precision_changes_no_kind_of_number(self, tmp_path: Path) -> None:
        """In bfloat16 the method trains, and what it remembers is stored as without."""
        kinds = []
        for precision in ("no", "bf16"):
            method, accelerator = self.method(**self.options), make_accelerator(precision)
            _, history = self.fit(method, tmp_path / precision, epochs=2, accelerator=accelerator)
            assert np.isfinite([record["train_loss"] for record in history]).all()
            kinds.append({name: value.dtype for name, value in method.state_dict().items()})
        assert kinds[0] == kinds[1]

    @pytest.mark.slow
    def test_two_processes_agree_at_every_epochs_end(self, tmp_path: Path) -> None:
        """Weights, running statistics and the memory of every scene are the same on both."""
        run_processes(Path(inspect.getfile(type(self))), [type(self).__qualname__], tmp_path)
        self.check_processes(tmp_path / type(self).__qualname__)

    def test_deployed_network_exports(self, tmp_path: Path) -> None:
        """What the run keeps can be exported, and then says the same."""
        kept, _ = self.fit(self.method(**self.options), tmp_path, epochs=2)
        images = self.images()[:2]
        exported = torch.export.export(kept, (images,)).module()
        with torch.no_grad():
            torch.testing.assert_close(exported(images), kept(images))

    def test_refuses_labels_it_cannot_use(self) -> None:
        """With a LabelError before any step, never with a constant answer."""
        for labels in self.useless_labels():
            with pytest.raises(LabelError):
                self.started(labels)

    # Parts of the tests ----------------------------------------------------------------------------------------

    def fit(
        self, method: Method, folder: Path, *, epochs: int, **others: Any
    ) -> tuple[nn.Module, list[dict[str, Any]]]:
        """Train by the real loop."""
        images = self.images()
        settings = Settings(
            epochs=epochs, batch_size=8, learning_rate=0.02, augment=("flips",), schedule="constant"
        )
        return fit(
            self.model(),
            method,
            lambda rows: images[rows],
            np.arange(SCENES),
            self.labels(),
            settings,
            folder,
            **others,
        )

    def run_as_one_of_several(self, folder: Path, rank: int) -> None:
        """Train in one of several processes and leave the state of each epoch; called by the child processes."""
        from swath.training.checkpoint import write_tensors

        def on_epoch(method: Method, network: nn.Module, record: dict[str, Any]) -> None:
            tensors = {f"method.{key}": value for key, value in method.named_buffers()}
            tensors |= {f"method.{key}": value for key, value in method.named_parameters()}
            tensors |= {f"deployed.{key}": value for key, value in network.state_dict().items()}
            loss = {"train_loss": record["train_loss"]}
            write_tensors(folder / f"process-{rank}" / f"{record['epoch']}.safetensors", tensors, loss)

        self.fit(self.method(**self.options), folder, epochs=4, on_epoch=on_epoch)

    def check_processes(self, folder: Path) -> None:
        """Compare what the processes left."""
        for epoch in range(4):
            one, other = (
                read_tensors(folder / f"process-{rank}" / f"{epoch}.safetensors") for rank in (0, 1)
            )
            assert one[1] == other[1]
            assert one[0].keys() == other[0].keys()
            for name, value in one[0].items():
                assert torch.equal(value, other[0][name]), f"{name} differs after epoch {epoch}"


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Check that two rows of tensors are equal bit for bit."""
    assert len(one) == len(other)
    for position, (left, right) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(left, right), f"number {position} of {len(one)} differs"


def assert_same_state(one: Sequence[nn.Module], other: Sequence[nn.Module]) -> None:
    """Check that all buffers and parameters of modules are equal bit for bit."""
    for left, right in zip(one, other, strict=True):
        mine, theirs = left.state_dict(), right.state_dict()
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert torch.equal(value, theirs[name]), f"{name} differs"


def _given(values: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    if values is None:
        raise LabelError("The tester's labels need a confidence and a source; see MethodTester.labels.")
    return values
