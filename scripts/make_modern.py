"""Write the bundled set of today's messages from hand-written templates, the same in every run.

    python -m scripts.make_modern [--check]

`scripts/modern/ham.txt` and `spam.txt` hold the templates by kind: contrast pairs, such as real and
fake parcel notices. Each template is a group, so that a split keeps its messages together; a group
is numbered by its line, so new templates go to the end of a file, and its messages hang on no other
template. Phone numbers are those reserved for fiction; hosts of spam are random letters.
"""

import random
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from scripts.generated_csv import write_or_check

TEMPLATES = Path(__file__).resolve().parent / "modern"
TARGET = Path(__file__).resolve().parent.parent / "spam_mlflow" / "data" / "sources" / "modern.csv"
SEED = 20250131
PER_TEMPLATE = 3  # messages, before duplicates are dropped

CHOICES = {
    "name": "Anna|Ben|Chloe|Dev|Ella|Femi|Grace|Hassan|Ines|Jack|Kofi|Lena|Mo|Nina|Omar|Priya|Sam",
    "surname": "Adams|Brown|Costa|Dietrich|Evans|Fischer|Green|Hughes|Ito|Jones|Khan|Lewis|Patel",
    "app": "WhatsApp|Google|Uber|PayPal|Signal|Telegram|Microsoft|Amazon|Instagram|Airbnb|Tinder|"
    "Discord|Apple|LinkedIn|Revolut|Zoom|the app",
    "bank": "HSBC|Barclays|Lloyds|NatWest|Santander|Monzo|Chase|Wells Fargo|Citi|Bank of America|SBI|"
    "HDFC Bank|ICICI Bank|Axis Bank|GTBank|Zenith|Nationwide|Revolut|Halifax|Starling|{bank_in}|"
    "{bank_africa}|{bank_far}",
    "bank_in": "SBI|HDFC Bank|ICICI Bank|Axis Bank|Kotak|PNB|Canara Bank|Bank of Baroda|IndusInd",
    "bank_africa": "GTBank|Zenith|UBA|First Bank|Access Bank|Fidelity|Opay|Kuda|Equity Bank|KCB|"
    "Co-op Bank|FNB|Absa|Capitec",
    "bank_far": "DBS|OCBC|UOB|POSB|CommBank|ANZ|Westpac|NAB|BDO|BPI|GCash",
    "network": "EE|Three|O2|Vodafone|giffgaff|Lebara|T-Mobile|Verizon|AT&T|{network_in}|"
    "{network_africa}|Globe|Smart|Telstra|Optus|Singtel",
    "network_in": "Jio|Airtel|Vi|BSNL",
    "network_africa": "MTN|Airtel|Glo|9mobile|Safaricom|Vodacom|Telkom",
    "wallet": "M-PESA|MoMo|Airtel Money|Paytm|PhonePe|GCash|Opay|PayLah|Venmo|Zelle|Cash App|PalmPay",
    "stream": "Netflix|Spotify|Disney+|Prime Video|YouTube Premium|Audible|Now TV",
    "antivirus": "Norton|McAfee|Geek Squad|PC protection|device security",
    "council": "Council|City Council|Borough Council|County|Town Hall",
    "ussd": "*123#|*131#|*556#|*312#|*310#|*121#|*100#|*544#|*282#|*199#|*901#|*737#",
    "relative": "mum|dad|nan|grandad|my sister|my brother|auntie {name}|uncle {name}|my cousin",
    "town": "Leeds|Brighton|Oxford|Cork|Bristol|Lagos|Abuja|Nairobi|Pune|Chennai|Austin|Denver|Perth",
    "meal": "the pizza|lunch|the curry|the taxi|the tickets|the present|the groceries|drinks|petrol",
    "carrier": "Royal Mail|DPD|Evri|DHL|UPS|FedEx|USPS|Hermes|Yodel|InPost|AusPost|Parcelforce",
    "shop": "Amazon|Tesco|Argos|IKEA|ASOS|Walmart|Target|Boots|John Lewis|Zara|Flipkart|Currys|eBay|"
    "Sainsbury's|Costco|H&M|Next|Best Buy",
    "utility": "British Gas|Octopus Energy|Thames Water|EDF|E.ON|City Power|National Grid|ConEd",
    "place": "Leeds|Brighton|Camden|Oxford|Cork|Bristol|Croydon|Market Street|Hill Road|Lagos|Pune|"
    "Austin|Denver|Riverside|Park Lane|Station Road",
    "country": "Spain|Poland|India|Mexico|Kenya|Canada|Dubai|France|Thailand|Singapore",
    "food": "pizza|curry|pasta|noodles|tacos|a roast",
    "item": "bike|sofa|cot|guitar|fridge|desk|jacket|phone|wardrobe|mirror|camera|lamp",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "month": "January|February|March|April|May|June|July|August|September|October|November",
    "known": "bbc.co.uk|theguardian.com|nhs.uk|wikipedia.org|gov.uk|nytimes.com|trainline.com|imdb.com",
    "flight": "BA284|EZY8812|FR1130|UA901|LH455|AI131|6E204|QF63|KQ101|SQ318",
}
KNOWN_LINKS = {
    "url_carrier": "royalmail.com/track/{tracking}|https://www.dpd.co.uk/tracking/{d9}|"
    "https://www.evri.com/track/{tracking}|https://www.ups.com/track?num={tracking}|"
    "https://dhl.com/t/{tracking}|tools.usps.com/go/{d9}",
    "url_shop": "https://www.amazon.co.uk/gp/{ref}|https://amzn.eu/d/{ref}|"
    "https://www.ikea.com/gb/{d7}|https://www.ebay.co.uk/itm/{d9}|https://www.argos.co.uk/p/{d7}",
    "url_gov": "https://www.gov.uk/{word}|https://www.nhs.uk/{word}|www.gov.uk/{word}-{word}",
    "url_news": "https://www.bbc.co.uk/news/uk-{d7}|https://www.theguardian.com/{word}/{word}|"
    "https://en.wikipedia.org/wiki/{word}|https://www.nytimes.com/{year}/{word}|"
    "https://www.bbc.co.uk/food/recipes/{word}|https://www.reuters.com/world/{word}",
    "url_docs": "https://docs.google.com/document/d/{hash}|https://forms.gle/{hash}|"
    "https://drive.google.com/file/d/{hash}|https://www.dropbox.com/s/{hash}|"
    "https://doodle.com/poll/{hash}|https://www.notion.so/{word}-{hash}",
    "url_meet": "https://meet.google.com/{word}|https://zoom.us/j/{d9}|https://teams.microsoft.com/l/{hash}",
    "url_map": "https://goo.gl/maps/{hash}|https://maps.google.com/?q={word}",
    "url_photo": "https://photos.app.goo.gl/{hash}|https://www.icloud.com/sharedalbum/{hash}",
    "url_music": "https://open.spotify.com/track/{hash}|https://soundcloud.com/{word}/{word}",
    "url_video": "https://youtu.be/{hash}|https://www.youtube.com/watch?v={hash}",
    "url_ticket": "https://www.ticketmaster.co.uk/event/{ref}|https://www.eventbrite.co.uk/e/{d9}",
    "url_code": "https://github.com/{word}/{word}/pull/{d3}|https://stackoverflow.com/q/{d7}",
    "url_home": "https://www.rightmove.co.uk/properties/{d9}|https://www.airbnb.com/rooms/{d7}",
    "url_job": "https://www.linkedin.com/jobs/view/{d9}|https://www.gov.uk/{word}",
    "url_network": "https://www.jio.com/{ref}|https://www.airtel.in/{word}|https://www.mtn.ng/{word}|"
    "https://ee.co.uk/{word}|www.three.co.uk/my3|https://www.vodafone.co.uk/{word}|t-mobile.com/{word}|"
    "https://www.verizon.com/{word}|https://www.globe.com.ph/{word}|telstra.com.au/{word}",
    "url_bank": "https://www.hsbc.co.uk/{word}|https://www.barclays.co.uk/{word}|www.onlinesbi.sbi|"
    "https://www.hdfcbank.com/{word}|https://www.icicibank.com/{word}|https://www.gtbank.com/{word}|"
    "https://www.chase.com/{word}|https://www.dbs.com.sg/{word}|https://www.commbank.com.au/{word}",
    "url_power": "https://www.thameswater.co.uk/{word}|https://octopus.energy/{word}|powercut105.com|"
    "https://www.britishgas.co.uk/{word}|https://www.coned.com/{word}",
    "url_travel": "https://www.booking.com/{d9}|https://www.ryanair.com/{ref}|https://www.ba.com/{ref}|"
    "https://www.trainline.com/{ref}|https://www.uber.com/trip/{hash}|https://www.goindigo.in/{ref}",
    "url_survey": "https://www.surveymonkey.com/r/{ref}|https://forms.office.com/r/{hash}|"
    "https://forms.gle/{hash}",
    "url_charity": "https://www.justgiving.com/{word}|https://www.gofundme.com/f/{word}|"
    "https://www.redcross.org.uk/{word}",
    "url_food": "https://deliveroo.co.uk/orders/{d9}|https://www.ubereats.com/orders/{hash}|"
    "https://www.swiggy.com/track/{d9}|https://www.opentable.co.uk/r/{ref}",
    "url_social": "https://www.instagram.com/p/{hash}|https://www.facebook.com/events/{d9}|"
    "https://www.tiktok.com/@{word}/video/{d9}|https://x.com/{word}/status/{d9}|https://chat.whatsapp.com/{hash}",
}
ODD_TLDS = [
    "top",
    "xyz",
    "info",
    "click",
    "live",
    "online",
    "site",
    "club",
    "vip",
    "buzz",
    "icu",
    "cc",
    "shop",
    "link",
    "win",
    "com",
    "net",
    "co",
]
SHORTENERS = ["bit.ly", "tinyurl.com", "cutt.ly", "is.gd", "rb.gy", "t.ly", "shorturl.at"]
BAIT = [
    "secure",
    "parcel-fee",
    "redeliver",
    "account-verify",
    "my-delivery",
    "claim-gift",
    "login-help",
    "refund-gov",
    "update-info",
    "track-pkg",
    "reward",
    "billing-support",
    "toll-pay",
    "bonus-hub",
    "ref-id",
]
_CHOICE = re.compile(r"\[([^\[\]]+)\]")
_PUNCTUATION = re.compile(r"[.,:;!?]+(?=\s|$)")  # not that within links and amounts
_SLOT = re.compile(r"\{(\w+)\}")


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randint(1, 9)) + "".join(rng.choices(string.digits, k=count - 1))


def _letters(rng: random.Random, count: int, letters: str = string.ascii_lowercase) -> str:
    return "".join(rng.choices(letters, k=count))


def _large(rng: random.Random, about: list[int]) -> str:
    """Return an amount near one of `about`, as written in one of several ways."""
    whole = rng.choice(about) + rng.choice([0, 0, 0, rng.randint(1, 49)])
    return rng.choice([f"{whole}", f"{whole:,}", f"{whole:,}.00", f"{whole}.{rng.randint(10, 99)}"])


def _odd_link(rng: random.Random) -> str:
    """Return a link as fraud has them: a random host, often with a word of bait."""
    host = _letters(rng, rng.randint(4, 7)) + rng.choice(["", _digits(rng, 2)])
    if rng.random() < 0.6:
        # The registered name keeps the random letters, so that it is nobody's.
        host = f"{rng.choice(BAIT)}{'-' if rng.random() < 0.7 else '.'}{host}"
    scheme = rng.choice(["https://", "http://", "", "www.", "https://"])
    path = rng.choice(["", f"/{_letters(rng, 4)}", f"/{_letters(rng, 2)}{_digits(rng, 3)}"])
    return f"{scheme}{host}.{rng.choice(ODD_TLDS)}{path}"


DRAWN: dict[str, Callable[[random.Random], str]] = {
    **{f"d{count}": lambda rng, count=count: _digits(rng, count) for count in (2, 3, 4, 5, 7, 9)},  # type: ignore[misc]
    **{f"code{count}": lambda rng, count=count: _digits(rng, count) for count in (3, 4, 5, 6, 8)},  # type: ignore[misc]
    "n": lambda rng: str(rng.randint(2, 12)),
    "min": lambda rng: str(rng.choice([5, 10, 15, 30])),
    "year": lambda rng: str(rng.randint(2018, 2025)),
    "time": lambda rng: rng.choice(
        [f"{rng.randint(7, 22)}:{rng.choice(['00', '15', '30', '45'])}", f"{rng.randint(1, 12)}pm"]
    ),
    "date": lambda rng: rng.choice(
        [f"{rng.randint(1, 28)}/{rng.randint(1, 12):02}", f"{rng.randint(4, 28)}th"]
    ),
    "amount": lambda rng: (
        f"{rng.choice('££££$$€')}{rng.choice([20, 45, 80, 120, 250, 430, 999, 1250])}"
    ),
    "small": lambda rng: (
        f"{rng.choice('££$€')}{rng.randint(1, 9)}.{rng.choice(['45', '99', '50', '20'])}"
    ),
    "rs": lambda rng: f"Rs {rng.choice(['499', '1,250', '5000', '12,000', '25000'])}",
    "naira": lambda rng: (
        f"{rng.choice(['N', 'NGN', 'NGN ', '₦'])}{_large(rng, [100, 500, 2000, 15000, 87500])}"
    ),
    "shillings": lambda rng: (
        f"{rng.choice(['Ksh', 'KES ', 'Ksh '])}{_large(rng, [50, 320, 1500, 9400])}"
    ),
    "far": lambda rng: (
        f"{rng.choice(['S$', 'SGD ', 'A$', 'AUD ', 'PHP ', 'R'])}{_large(rng, [30, 88, 150, 640, 2300])}"
    ),
    "dollars": lambda rng: f"${rng.choice(['3.50', '50', '250', '500', '1,400', '2,300', '8000'])}",
    "crypto": lambda rng: (
        f"{rng.choice(['0.5', '1.2', '3'])} {rng.choice(['BTC', 'ETH', 'bitcoin'])}"
    ),
    "pence": lambda rng: str(rng.choice([10, 25, 50, 150])),
    "short": lambda rng: str(rng.choice([rng.randint(60000, 89999), rng.randint(80000, 88999)])),
    "mobile": lambda rng: rng.choice(
        [
            f"07700900{rng.randint(0, 999):03}",
            f"+44 7700 900{rng.randint(0, 999):03}",
            f"202-555-01{rng.randint(0, 99):02}",
            f"+1 202 555 01{rng.randint(0, 99):02}",
            f"0491 570 {rng.choice([156, 157, 158, 159, 313, 737])}",
        ]
    ),
    "masked": lambda rng: (
        f"{rng.choice(['0803', '0722', '98', '07', '+2547'])}{rng.choice(['XXXXX', '*****'])}{_digits(rng, 2)}"
    ),
    "landline": lambda rng: f"01632 960{rng.randint(0, 999):03}",
    "premium": lambda rng: f"0909 8790{rng.randint(0, 999):03}",
    "toll": lambda rng: f"1-800-555-01{rng.randint(0, 99):02}",
    "tracking": lambda rng: _letters(rng, 2, string.ascii_uppercase) + _digits(rng, 9) + "GB",
    "ref": lambda rng: _letters(rng, 6, string.ascii_uppercase + string.digits),
    "hash": lambda rng: _letters(rng, 11, string.ascii_letters + string.digits),
    "word": lambda rng: rng.choice(
        ["travel", "health", "notes", "cake", "bridge", "garden", "tax"]
    ),
    "handle": lambda rng: f"@{_letters(rng, 6)}_{_digits(rng, 2)}",
    "email": lambda rng: f"{_letters(rng, 6)}{_digits(rng, 2)}@{_letters(rng, 5)}.example",
    "url_odd": _odd_link,
    "url_short": lambda rng: (
        f"{rng.choice(['https://', '', 'http://'])}{rng.choice(SHORTENERS)}/"
        + _letters(rng, 6, string.ascii_letters + string.digits)
    ),
}


def _filled(template: str, rng: random.Random) -> str:
    """Return a template with its choices made and its slots filled, which may hold slots."""
    text = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
    listed = CHOICES | KNOWN_LINKS
    while slot := _SLOT.search(text):
        name = slot[1]
        value = rng.choice(listed[name].split("|")) if name in listed else DRAWN[name](rng)
        text = text[: slot.start()] + value + text[slot.end() :]
    return text


def _typed(text: str, rng: random.Random) -> str:
    """Return `text` as it might arrive: sometimes in other capitals or without punctuation."""
    chance = rng.random()
    if chance < 0.15:
        return text.lower()
    if chance < 0.2:
        return text.replace("you", "u").replace("are", "r")
    if chance < 0.25:
        return text.rstrip(".!")
    if chance < 0.28:
        return text.upper()
    if chance < 0.35:
        return _PUNCTUATION.sub("", text).lower()
    return text


def _templates() -> Iterator[tuple[str, str, str]]:
    """Yield label, kind and text of every template."""
    for label in ("ham", "spam"):
        kind = ""
        for line in (TEMPLATES / f"{label}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("# "):
                kind = line[2:]
            elif line:
                yield label, kind, line


def messages() -> pd.DataFrame:
    """Return the messages: columns `text`, `label`, `kind` and `group`."""
    rows = []
    numbers: Counter[str] = Counter()
    for label, kind, template in _templates():
        numbers[label] += 1
        group = f"modern_{label}_{numbers[label]:03}"
        rng = random.Random(f"{SEED} {group}")
        for at in range(PER_TEMPLATE):
            text = _filled(template, rng)
            rows.append((_typed(text, rng) if at else text, label, kind, group))
    frame = pd.DataFrame(rows, columns=["text", "label", "kind", "group"])
    return frame.drop_duplicates("text", ignore_index=True)


def main() -> int:
    """Write the messages, or check the file with --check; return the exit status."""
    return write_or_check(messages, TARGET, __doc__)


if __name__ == "__main__":
    sys.exit(main())
