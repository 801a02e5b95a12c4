"""Keys from the installation's secret: the same each time, another for each use."""

from consent.installation_keys import key_for


def test_a_key_is_the_same_each_time_and_another_for_each_use_and_thing(settings) -> None:
    settings.SECRET_KEY = "a secret of this test"
    keys = {key_for(b"a"), key_for(b"b"), key_for(b"a", of="x"), key_for(b"a", of="y")}
    assert len(keys) == 4
    # RFC 5869 with an empty salt, as any other HKDF-SHA256 gives it: what is sealed today opens tomorrow.
    assert key_for(b"a").hex() == "51b88b9fd1d654b0fa43416a476a47e2642bf907d84212d1141267644d096cbb"
    settings.SECRET_KEY = "another"
    assert key_for(b"a") not in keys
