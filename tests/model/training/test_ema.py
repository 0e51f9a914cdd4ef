import pytest
import torch
from torch import Tensor, nn

from spectile.model.training.ema import Ema


def filled(value: float) -> nn.Linear:
    module = nn.Linear(2, 1)
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


def weight(ema: Ema) -> float:
    return float(ema.tensors["weight"][0, 0])


def test_average_is_a_copy_until_it_starts() -> None:
    ema = Ema(filled(0.0), decay=0.9, start=3)
    ema.update(filled(5.0))
    ema.update(filled(3.0))
    assert weight(ema) == 3.0
    ema.update(filled(13.0))
    assert weight(ema) == pytest.approx(0.9 * 3.0 + 0.1 * 13.0)


def test_a_restored_average_goes_on_as_if_never_stopped() -> None:
    whole, first = (Ema(filled(0.0), decay=0.5, start=2) for _ in range(2))
    for ema in (whole, first):
        ema.update(filled(1.0))
        ema.update(filled(2.0))
    resumed = Ema(filled(9.0), decay=0.5, start=2)
    resumed.restore(*first.state())
    for ema in (whole, resumed):
        ema.update(filled(4.0))
    assert weight(resumed) == weight(whole) == 2.75


def test_saved_state_does_not_change_afterwards() -> None:
    ema = Ema(filled(1.0), start=10)
    tensors, step = ema.state()
    ema.update(filled(2.0))
    assert float(tensors["weight"][0, 0]) == 1.0
    assert step == 0


def test_whole_number_entries_are_copied_and_never_averaged() -> None:
    class Counting(nn.Module):
        count: Tensor

        def __init__(self, count: int) -> None:
            super().__init__()
            self.register_buffer("count", torch.tensor(count))

    ema = Ema(Counting(0), start=0)
    ema.update(Counting(7))
    assert int(ema.tensors["count"]) == 7


def test_the_average_of_another_network_is_refused() -> None:
    with pytest.raises(KeyError, match="bias"):
        Ema(filled(0.0)).restore({"weight": torch.zeros(1, 2)}, 1)


def test_a_part_of_a_module_is_averaged_under_its_own_names() -> None:
    whole = torch.nn.ModuleDict({"kept": torch.nn.Linear(2, 1), "other": torch.nn.Linear(3, 1)})
    ema = Ema(whole, decay=0.5, start=0, part="kept")
    before = ema.state()[0]["weight"]
    with torch.no_grad():
        whole["kept"].weight.add_(2.0)
    ema.update(whole)
    assert sorted(ema.state()[0]) == ["bias", "weight"]
    assert torch.allclose(ema.state()[0]["weight"], before + 1.0)
