"""Write the bundled sample: short messages from templates, the same in every run.

    python -m scripts.make_sample [--check]

Phone numbers and domains are reserved for fiction and documentation. Each template is a group, so
that a split keeps its messages together. Both classes have hard cases: one-time codes, delivery
notices and prices among ham; plainly worded spam.
"""

import random
import string
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from scripts.generated_csv import write_or_check

TARGET = Path(__file__).resolve().parent.parent / "spam_mlflow" / "data" / "sources" / "sample.csv"
SEED = 20240229
PER_TEMPLATE = 24  # messages, before duplicates are dropped

HAM_SMS = """
Hey {name}, are you still coming to {place} at {time}?
Running late, be there in {minutes} mins. Sorry!
Can you pick up some {food} on the way home pls
Happy birthday {name}!! Hope you have a lovely day x
Your verification code is {code}. It expires in {minutes} minutes. Do not share it with anyone.
{code} is your login code for {company}. We will never ask you for it.
Your parcel from {company} will be delivered on {day} between {time} and {time}.
{company}: your order {code} is ready to collect at {place}. Bring a photo ID.
Reminder: your appointment with Dr {surname} is on {day} at {time}. Reply C to cancel.
The train was cancelled again, taking the bus from {place} instead
Mum says dinner is at {time}, bring {food} if u can
I paid {amount} for the tickets, you owe me half :)
The flat is {amount} a month plus bills, what do you think?
Got the tickets! {amount} each, row {minutes}. See you {day}
lol that {film} film was so bad, we left after {minutes} minutes
Did you finish the essay? Mine is only {number} words so far
{name} said the meeting moved to {day} {time}, room {minutes}
Thanks for {day}, it was really good to see you all
Call me when you get this, it is about the car
I'll ring you back after work, phone is nearly dead
Are we free on {day}? {name} wants to try that new place near {place}
Ok
Good night, sleep well. Talk tomorrow x
Can't talk now, in a lecture. Text me?
What time does the {place} shop close today?
Your balance is {amount}. Card payments made today may not show yet. {company}
You have {number} loyalty points at {company}. Thank you for your visit on {day}.
Payment of {amount} to {company} was successful. If this wasn't you, call the number on your card.
Class on {day} is cancelled, Mr {surname} is ill. Do the exercises on page {minutes}.
The key is under the {object} by the back door, {name} knows
Congrats on the new job {name}!! Knew you would win them over
Free {day} evening? Thinking of {food} and a film at mine
Haha yes!! Tell {name} I said hi
Dont forget to bring the {object} to {place}
He won the race!! First prize, {amount} voucher and a medal
Sorry i missed your call, was driving. Everything ok?
Could you send me the address again please? I deleted it by accident
My number has changed, this is {name}. Please save it, old one stops on {day}
Water will be off in {place} on {day} from {time} to {time} for urgent repairs. {company}
Do you want the last {object}? It is free, neighbour is giving it away
URGENT can you collect {name} from school, im stuck at {place}
See u at {time} then. Love you
So tired... {minutes} more pages and i'm going to bed
Vote for {name} as class rep on {day}! Only joking, do what you like
"""

SPAM_SMS = """
WINNER!! You have won a {amount} {brand} voucher. Call {premium} now to claim, code {code}
URGENT! Your mobile number was selected for a {amount} prize. Call {premium} before {day}
FREE entry into our {amount} weekly draw! Text WIN to {short} now. {pence}p/msg, 18+
Congratulations {name}, you are our {number}th customer. Claim your {brand} gift card: {url}
Your {company} account is locked. Confirm your details within {minutes} hours at {url}
{company}: we could not deliver your parcel. Pay the {pence}p fee here: {url}
You have {minutes} unread messages from a girl in {place}. Reply YES to {short} to read. {pence}p each
Get a loan of up to {amount} today, no credit check! Apply at {url}
Tired of debt? We write off up to {percent}% of what you owe. Reply INFO or call {premium}
Hot singles in {place} want to chat tonight! Text DATE to {short}, {pence}p per msg
Cheap meds without prescription, {percent}% off this week only {url}
Had an accident? You may be entitled to {amount}. Reply CLAIM to {short}
Your {brand} phone has been upgraded for FREE. Collect it now: {url} T&Cs apply
Ringtone of the week: {film}! Text TONE{code} to {short}. {pence}p/week until you send STOP
LAST CHANCE to claim your {amount} cash! Call {premium}. Valid till {day} only
Tax refund of {amount} pending. Submit your bank details at {url} to receive it by {day}
Make {amount} a week from home, no experience needed. Ask me how: {url}
Dear customer, your {company} points worth {amount} expire on {day}. Redeem: {url}
U have a secret admirer! Find out who from {place} by calling {premium}. {pence}p/min
Private! Your {number} statement shows unredeemed bonus points. Call {premium} quoting {code}
Bet {amount} free on tonight's match! New players only: {url}
Invest in {coin} now, {percent}% profit guaranteed in {minutes} days. Join: {url}
Hi, it is me from the agency. We have a position for you, {amount} per day. Write me on the other app
Hello dear, I saw your profile and would like to know you better. Please write to me at {email}
Your number was recommended by a friend. I can show you how I earn {amount} each week, interested?
Good day. I have a business proposal worth {amount}. Kindly reply to {email} for details
Hi mum, I lost my phone, this is my new number. Can you send {amount} for the bill? Will explain later
We noticed you have not used your free spins. {minutes} spins are waiting, {url}
Buy {number} followers for only {amount}! Real people, instant delivery {url}
Your subscription to {company} renews for {amount} today. To cancel call {premium}
FINAL NOTICE: unpaid toll of {amount}. Settle today to avoid a fine {url}
You've been chosen for a survey on {brand}. {minutes} questions, {amount} reward: {url}
"""

HAM_COMMENT = """
this song still gives me chills after {minutes} listens
who is listening to this in {year}?
My {relative} played this at her wedding, such good memories
the bass at 2:{seconds} is insane
{name} your voice is amazing, love from {country}
I don't get why people dislike this, it is a great tune
{number} million views and she deserves every one of them
The dance at 1:{seconds} though, i tried it and fell over :D
better than anything on the radio in {year}
Came here after the {film} film, not disappointed
The first verse reminds me of {place} in the summer
does anyone know which guitar that is at 0:{seconds}?
not my kind of music but the video is really well made
I bought the album for {amount} and it was worth it
my little brother sings this all day, please send help
I miss the days when this was on at every party
so who else only knows this because of {film}
Best live version so far, saw them in {place} in {year}
subscribed years ago and never regretted it
Check the lyrics at 1:{seconds}, she really says {object}!
Why is nobody talking about the drummer? he is on fire
This deserves a billion views
First time hearing this, where have I been
♥ ♥ ♥ love it
The comments here are full of adverts, can we just enjoy the song
"""

SPAM_COMMENT = """
Check out my channel for cool {object} videos, new one every {day}!
SUBSCRIBE to me and I will subscribe back!!! {number} subs by {day}
Hey guys I'm {name}, a {minutes} year old singer from {place}. Please give my covers a chance
I make {amount} a week with this simple trick, see here: {url}
Free {brand} gift cards!!! They really work, got mine today {url}
please like my comment so that my {relative} buys me a {brand}
Visit {url} to download this song for FREE, no virus
Want more views? I got {number} in one night with {url}
If you like {film} you will love my new video, link on my page
Help me get to {number} followers, every follower gets a shout out
vote for me at {url} I need {minutes} more votes to win {amount}
My band from {country} just released a track, please listen, it takes {minutes} seconds of your life
We are raising money for {name}, donate at {url} God bless you
watch {film} full movie online in HD {url}
I lost {minutes} kilos in a month thanks to {url}, no diet
Hello everyone, I started a page about {place}. It would mean a lot if some of you had a look
Every person who thumbs this up will have {minutes} years of luck
OMG {name} died?! see the shocking video here {url}
earn {coin} while you sleep, join me with code {code} at {url}
Our new {object} shop is open, {percent}% off for all fans: {url}
I am a producer, if you rap or sing write to {email}, first beat is free
Come and play the game everybody is talking about, my clan needs people, look for {name}{minutes}
"""

CHOICES = {
    "name": "Anna Ben Chloe Dev Ella Femi Grace Hassan Ines Jack Kofi Lena Mo Nina Omar Priya",
    "surname": "Adams Brown Costa Dietrich Evans Fischer Green Hughes Ito Jones",
    "place": "Leeds|the station|Brighton|the library|campus|Camden|the gym|Cork|the mall|Oxford",
    "food": "milk|pizza|bread and eggs|curry|chips|salad|noodles|apples",
    "company": "Northbank|ParcelGo|Acme Energy|CityTel|Greenleaf|QuickShop|Bluewater",
    "brand": "iPhone|Nokia|PlayStation|Amazing|Xbox|Galaxy|MacBook",
    "film": "Blue Harbour|Night Train|The Last Orchard|Robot Summer|Paper Moon 2",
    "object": "charger|umbrella|guitar|blue folder|football|sofa|cooking|make up",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday tomorrow",
    "relative": "sister|mum|cousin|grandma|best friend",
    "country": "Brazil|Poland|India|Mexico|Kenya|Canada|the Philippines",
    "coin": "bitcoin|ether|our new coin|crypto",
}


def slots(rng: random.Random) -> dict[str, str]:
    """Return a random value for every slot that a template may have."""
    filled = {
        key: rng.choice(values.split("|") if "|" in values else values.split())
        for key, values in CHOICES.items()
    }
    drawn: dict[str, Callable[[], str]] = {
        "time": lambda: f"{rng.randint(7, 22)}:{rng.choice(['00', '15', '30', '45'])}",
        "minutes": lambda: str(rng.randint(2, 59)),
        "seconds": lambda: f"{rng.randint(0, 59):02}",
        "amount": lambda: (
            f"{rng.choice('££$€')}{rng.choice([5, 20, 150, 250, 500, 1000, 2000, 5000])}"
        ),
        "code": lambda: "".join(rng.choices(string.digits, k=rng.choice([4, 5, 6]))),
        "number": lambda: str(rng.choice([100, 250, 500, 800, 1000, 1500, 10000])),
        "year": lambda: str(rng.randint(2011, 2024)),
        "pence": lambda: str(rng.choice([10, 25, 50, 150])),
        "percent": lambda: str(rng.choice([20, 50, 70, 80, 90])),
        "short": lambda: str(rng.randint(80000, 89999)),
        "premium": lambda: f"0909 8790{rng.randint(0, 999):03}",
        "url": lambda: f"{rng.choice(['http://', 'www.', ''])}{_word(rng)}.example/{_word(rng)}",
        "email": lambda: f"{_word(rng)}@{_word(rng)}.example",
    }
    return filled | {key: draw() for key, draw in drawn.items()}


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 8)))


def _handwritten(text: str, rng: random.Random) -> str:
    """Return `text` as it might be typed: sometimes in lower case, sometimes abbreviated."""
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.replace("you", "u").replace("are", "r")
    if rng.random() < 0.2:
        text = text.rstrip(".!") + rng.choice(["", "!", "...", " :)", "!!"])
    return text


def sample() -> pd.DataFrame:
    """Return the sample: columns `text`, `label`, `source` and `group`."""
    rng = random.Random(SEED)
    parts = [
        ("ham", "sample_sms", HAM_SMS),
        ("spam", "sample_sms", SPAM_SMS),
        ("ham", "sample_comment", HAM_COMMENT),
        ("spam", "sample_comment", SPAM_COMMENT),
    ]
    rows = []
    for label, source, templates in parts:
        for number, template in enumerate(templates.strip().splitlines(), start=1):
            for _ in range(PER_TEMPLATE):
                text = _handwritten(template.format(**slots(rng)), rng)
                rows.append((text, label, source, f"{source}_{label}_{number:02}"))
    frame = pd.DataFrame(rows, columns=["text", "label", "source", "group"])
    return frame.drop_duplicates("text", ignore_index=True)


def main() -> int:
    """Write the sample, or check the file with --check; return the exit status."""
    return write_or_check(sample, TARGET, __doc__)


if __name__ == "__main__":
    sys.exit(main())
