"""Find personal data in shop text (English and mainland Chinese) and replace it with keyed pseudonyms.

>>> from synthrec.privacy import Pseudonymiser, load_key
>>> text, counts = Pseudonymiser(load_key()).text("打我13812345678就行")  # doctest: +SKIP
>>> text, counts  # doctest: +SKIP
('打我<PHONE_5f0c3a91>就行', {'phone': 1})
"""

from synthrec.privacy.pseudonyms import USER, Pseudonymiser, load_key
from synthrec.privacy.recognisers import KINDS, Span, find

__all__ = ["KINDS", "USER", "Pseudonymiser", "Span", "find", "load_key"]
