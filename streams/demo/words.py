"""The words from which fictional companies and people are put together.

Raw spellings of sectors and countries are those that Salesforce, HubSpot and people use, so that the
vocabularies have something to do. A table's first column is how often a line is drawn.
"""

from __future__ import annotations

from typing import NamedTuple


class Sector(NamedTuple):
    weight: int
    nouns: list[str]  # last word of the company's name
    spellings: list[str]  # of the industry


class Place(NamedTuple):
    weight: int
    cities: list[str]
    spellings: list[str]  # of the country


def _rows(table: str) -> list[tuple[int, list[str], list[str]]]:
    """`weight | words | words`, words separated by semicolons."""
    rows = (line.split("|") for line in table.strip().splitlines())
    return [(int(weight), _items(left), _items(right)) for weight, left, right in rows]


def _words(text: str) -> list[str]:
    return text.split()


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(";")]


COLOURS = _words("""
    Blue Amber Copper Quiet Velvet Crimson Maple Marble Lunar Cobalt Paper Wandering Hollow Gentle Saffron
    Thistle Willow Juniper Ivory Brass Clover Misty Sunlit Frosted Emerald Pebble Bramble Indigo Nimble Tidal
""")
THINGS = _words("""
    Harbor Otter Lantern Kettle Meadow Heron Anchor Compass Orchard Badger Teapot Lighthouse Sparrow Acorn Anvil
    Puffin Windmill Walrus Bridge Fern Comet Marmot Gable Biscuit Rudder Tulip Pinecone Moth Beacon Finch
""")
SECTORS = [
    Sector(*row)
    for row in _rows("""
20 | Software; Systems; Cloud; Data | Software; Computer Software; SaaS; COMPUTER_SOFTWARE; Technology; Internet
16 | Bank; Capital; Payments; Finance | FinTech; Banking; Financial Services; FINANCIAL_SERVICES; Finance; fintech
9 | Works; Machines; Robotics | Manufacturing; Machinery; INDUSTRIAL_AUTOMATION; Electronics; Automotive
8 | Health; Clinics; Care | Healthcare; Health Care; HOSPITAL_HEALTH_CARE; Hospital & Health Care
5 | Therapeutics; Biolabs | Biotechnology; Biotech; Pharmaceuticals; MEDICAL_DEVICES; Life Sciences
8 | Logistics; Freight; Lines | Transportation; Shipping; Logistics and Supply Chain; LOGISTICS_AND_SUPPLY_CHAIN
7 | Outfitters; Market; Stores | Retail; RETAIL; E-Commerce; ecommerce; Supermarkets; Wholesale
5 | Foods; Brewing; Apparel | Food & Beverage; Food and Beverages; Consumer Goods; APPAREL_FASHION; CPG
5 | Energy; Solar; Grid | Energy; Utilities; Oil & Energy; RENEWABLES_ENVIRONMENT; Oil and Gas; Environmental
4 | Insurance; Mutual | Insurance; INSURANCE; InsurTech
4 | Telecom; Networks | Telecommunications; Telecom; Communications; WIRELESS
4 | Media; Studios; Press | Media; Entertainment; ONLINE_MEDIA; Publishing; Media & Entertainment
6 | Partners; Advisory; Consulting | Consulting; Management Consulting; Professional Services; Legal Services
4 | Builders; Estates | Construction; Real Estate; COMMERCIAL_REAL_ESTATE; Architecture & Planning
3 | Academy; Learning | Education; E-Learning; HIGHER_EDUCATION; EdTech
3 | Hotels; Travel | Hospitality; LEISURE_TRAVEL_TOURISM; Recreation; Travel & Tourism
2 | Farms; Growers | Agriculture; Farming; AgTech
2 | Foundation; Trust | Not For Profit; Non-Profit; NON_PROFIT_ORGANIZATION_MANAGEMENT
""")
]
PLACES = [
    Place(*row)
    for row in _rows("""
34 | Austin; Denver; Boston; Portland; Chicago | United States; USA; US; U.S.; United States of America; usa
14 | Berlin; Hamburg; Munich; Leipzig | Germany; DE; Deutschland; DEU; germany
12 | London; Leeds; Bristol | United Kingdom; UK; GB; Great Britain; England
7 | Paris; Lyon; Nantes | France; FR; FRA
6 | Utrecht; Rotterdam | Netherlands; NL; Holland; The Netherlands
5 | Toronto; Halifax | Canada; CA; CAN
4 | Zurich; Basel | Switzerland; CH; Schweiz; Suisse
3 | Oslo; Bergen | Norway; NO; Norge
3 | Seoul; Busan | South Korea; Korea, Republic of; KR
3 | Osaka; Kyoto | Japan; JP; JPN
3 | Pune; Chennai | India; IN; IND
3 | Madrid; Valencia | Spain; ES; España
3 | Recife; Curitiba | Brazil; BR; Brasil
""")
]
FIRST = _words("""
    Ada Bela Carmen Dario Edda Farid Greta Hugo Ines Jonas Keiko Liam Mina Noor Otis Petra Quentin Rosa
    Selim Tove Uma Viktor Wanda Xenia Yusuf Zora Alba Bruno Clara Dmitri Elif Femi Gwen Hana Idris Juno
""")
LAST = _words("""
    Abel Brandt Castell Dorn Eklund Fischer Garza Holm Ishii Jansen Kovac Lindqvist Moreau Nakata Okafor
    Pereira Quist Rossi Sandoval Tanaka Ulrich Varga Weiss Yilmaz Zeller Ashdown Birch Calder Denby Ferris
""")
TITLES = _items(
    "CTO; VP Engineering; Head of Procurement; Data Engineer; Marketing Manager; CFO; Head of Operations; "
    "Software Engineer; VP Sales; IT Director; Product Manager; Analyst; CEO; RevOps Manager; Chief of Staff"
)
OWNERSHIP: tuple[tuple[int, str | None], ...] = (
    (50, "Private"),
    (20, "Public"),
    (10, "Subsidiary"),
    (5, "Other"),
    (15, None),
)
KINDS = ((72, "Prospect"), (20, "Customer - Direct"), (8, "Technology Partner"))

# What companies say they run, and how they earn their money.
TECHNOLOGIES = _items("""
    Salesforce; HubSpot; Microsoft Dynamics 365; Snowflake; Databricks; Google BigQuery; Marketo; Twilio Segment;
    Google Analytics; Zapier; Tableau; Fivetran
""")
MODELS = _items("SaaS; Manufacturing; Services; E-Commerce; Marketplace; Distribution; Software License")
