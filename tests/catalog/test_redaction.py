import pytest

from spectile.catalog.redaction import redact, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("a/b.tif", "a/b.tif"),
        ("https://me:word@host:8443/a.tif", "https://host:8443/a.tif"),
        ("https://host/a.tif?X-Amz-Signature=abc#part", "https://host/a.tif?…"),
        ("https://me:wo/rd@host/a.tif", "https://…"),
        ("https://[::1]:80/a.tif", "https://[::1]:80/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
    ],
)
def test_a_url_keeps_its_place_and_loses_what_may_be_secret(url, shown):
    assert redact_url(url) == shown


def test_every_url_of_a_text_is_redacted_and_the_sentence_stays():
    text = "neither (https://a:b@host/x?token=1) nor 's3://bucket/y'."
    assert redact(text) == "neither (https://host/x?…) nor 's3://bucket/y'."
