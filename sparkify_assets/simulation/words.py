"""Words that names are made of.

Belongs here: lists of words. Does not belong here: how names are made (`people.py`,
`catalogue.py`).
"""

from __future__ import annotations


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# Of artists and songs.
FIRST_WORDS = listed("""
Amber Autumn Blue Broken Burning Cold Copper Crystal Dancing Dark Distant Electric Empty Falling
Fading Final Flying Frozen Gentle Ghostly Golden Green Grey Half Hidden Hollow Holy Hungry Iron
Ivory Jaded Last Lazy Lonely Lost Loud Lucky Mellow Midnight Modern Naked Neon New Northern Old
Open Orange Painted Pale Paper Perfect Plastic Polar Pretty Purple Quiet Rainy Red Restless
Rolling Rusty Sacred Salty Scarlet Secret Señorita Shiny Silent Silver Simple Sleeping Slow Small
Southern Steel Stolen Stone Strange Summer Sunny Sweet Tall Tender Tiny Twisted Velvet Violet
Waiting Warm White Wild Winter Wooden Yellow Young
""")
SECOND_WORDS = listed("""
Airport Angel Animal Arrow Avenue Ballroom Bird Boat Bridge Canyon Captain Carnival Castle
Cathedral City Cloud Coast Corazón Corner Cowboy Crown Dancer Daughter Desert Devil Dream Echo
Engine Eye Factory Feather Fever Field Fire Flower Forest Garden Ghost Giant Harbor Heart Highway
Horse Hotel House Hurricane Island Jungle Kingdom Ladder Lake Lantern Letter Light Lion Machine
Magnet Mirror Monkey Moon Morning Motel Mountain Museum Night Ocean Orchard Orchestra Parade
Penguin Pilot Pirate Planet Prairie Preacher Queen Radio Railroad Rain River Road Robot Rocket
Rose Sailor Satellite Shadow Ship Sister Sky Snow Soldier Sparrow Station Storm Street Sun Tiger
Train Valley Wave Window Wolf Wonder
""")
# Of users.
WOMEN = listed("""
Abigail Addison Alexis Alice Allison Amelia Anna Aria Ashley Audrey Autumn Ava Avery Bella Brianna
Brooklyn Camila Caroline Charlotte Chloe Claire Daisy Delilah Eleanor Elena Eliza Ella Emilia Emma
Eva Evelyn Faith Grace Hailey Hannah Harper Hazel Isabella Ivy Jade Jasmine Julia June Kayla Kylie
Laila Layla Leah Lillian Lily Lucy Luna Mackenzie Madeline Madison Maya Melanie Mia Mila Molly
Naomi Natalie Nora Olivia Paige Penelope Piper Quinn Rachel Riley Ruby Sadie Sarah Savannah Sofia
Sophia Stella Sydney Taylor Valentina Vera Victoria Violet Vivian Willow Ximena Zoe
""")
MEN = listed("""
Aaron Adam Adrian Aiden Alexander Andrew Anthony Asher Austin Benjamin Blake Brandon Brayden Caleb
Cameron Carson Carter Charles Christian Christopher Colin Connor Daniel David Diego Dominic Dylan
Eli Elijah Ethan Evan Everett Ezra Felix Gabriel Gavin George Grayson Henry Hudson Hunter Ian
Isaac Isaiah Jack Jackson Jacob James Jason Jayden Jeremiah John Jonathan Jordan Jose Joseph
Joshua Julian Justin Kevin Landon Leo Levi Liam Logan Lucas Luke Mason Mateo Matthew Max Micah
Michael Nathan Nathaniel Nicholas Noah Nolan Oliver Owen Parker Robert Ryan Samuel Sebastian
Thomas Tyler Vincent William Wyatt Xavier Zachary
""")
SURNAMES = listed("""
Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez
Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark
Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams
Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker
Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper
Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward Richardson Watson Brooks Chavez Wood Bennett
Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel Myers Long Ross Foster Jimenez
""")
# Of places; an underscore becomes a space.
PLACE_STARTS = listed("""
Ash Bay Beaver Birch Black Blue Brook Cedar Clear Cold Crest Deer East Elk Fair Fern Fox Glen Gold
Grand Green Hay High Iron Lake Lark Long Maple Mill North Oak Pine Red River Rock Rose Salt Sand
Silver South Spring Stone Sun Thorn West White Wild Wind Winter
""")
PLACE_ENDS = listed("""
_Beach _City _Falls _Grove _Heights _Rapids _Springs boro bridge brook burg bury dale field ford
gate haven land mont mouth port ridge side ton vale view ville wick wood worth
""")

# States of the United States with their population in millions.
STATE_MILLIONS = {
    state: float(millions)
    for state, millions in (
        pair.split(":")
        for pair in listed("""
CA:39 TX:29 FL:21 NY:19 PA:13 IL:13 OH:12 GA:11 NC:10 MI:10 NJ:9 VA:8 WA:8 AZ:7 MA:7 TN:7 IN:7
MO:6 MD:6 WI:6 CO:6 MN:6 SC:5 AL:5 LA:5 KY:4 OR:4 OK:4 CT:4 UT:3 IA:3 NV:3 AR:3 MS:3 KS:3 NM:2
NE:2 ID:2 WV:2 HI:1 NH:1 ME:1 MT:1 RI:1 DE:1 SD:1 ND:1 AK:1 VT:1
""")
    )
}
