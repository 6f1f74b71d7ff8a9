"""Postal addresses, English and mainland Chinese: those with a house number here, of named houses in `houses`.

Both languages work the same way: the house number and the street are the anchor, the rest of the address is read off
to its right by pattern, and what stands left of it (flat, or province to district) is walked back over. Going backwards
from an anchor is what keeps this linear: an "any Hanzi, then 市, then any Hanzi, then 区" pattern would not be.
"""

import re
from collections.abc import Iterator

from synthrec.privacy.houses import houses


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every address in the folded `text`."""
    yield from _english(text)
    yield from houses(text)
    if not text.isascii():
        yield from _chinese(text)


# --- English: [Flat 3,] 12 Oxford Street[, Flat 3][, London][ W1D 1AB]

_SURE_SUFFIX = (
    r"street|road|lane|avenue|boulevard|crescent|parkway|highway|mews|gardens|(?:st|rd|ln|ave|blvd|pkwy|hwy)\.?"
)
# These also end product names ("128 GB Flash Drive", "2 Large Square"), so they need more evidence around them.
_UNSURE_SUFFIX = (
    r"way|place|row|hill|square|close|court|drive|dr\.?|terrace|park|green|grove|walk|view|rise|circle|trail|"
    "loop|yard|steps|cottages?|bank|quay|wharf|gate|croft|parade|plaza|alley|passage|vale|mount"
)
_STREET = re.compile(
    r"(?<![0-9A-Za-z$£€¥.])(?<![0-9],)[0-9]{1,5}[A-Za-z]?(?:[-/][0-9]{1,4}[A-Za-z]?)?,? {1,2}"
    r"((?:(?:[A-Za-z][A-Za-z'’.-]{0,20}|[0-9]{1,3}(?:st|nd|rd|th)) ){1,4}?)"
    rf"((?:{_SURE_SUFFIX})|(?:{_UNSURE_SUFFIX}))(?![0-9A-Za-z'’-])"
    r"(?! (?:bik|bicycl|cycl|trip|test|tyre|tire|rac|runn|styl|sign|lamp|light|map|wear|shoe|noise)[a-z]*)"
    r"(?: (?:north|south|east|west|[ns][ew]?|[ew])(?![0-9A-Za-z]))?",
    re.IGNORECASE,
)
_PO_BOX = re.compile(r"(?<![A-Za-z])P\.? ?O\.? ?Box [0-9]{1,6}(?![0-9])", re.IGNORECASE)
_UNIT = r"(?:flat|apt|apartment|unit|suite|ste|room|rm|building|bldg|block|floor|studio)"
_HOUSE = "(?:(?-i:[A-Z])[A-Za-z'’]{1,20} ){1,3}(?-i:House|Cottage|Farm|Lodge|Hall|Court|Tower|Villa|Building),? "
_LEFT = re.compile(
    rf"(?<![A-Za-z])(?:{_HOUSE})?(?:{_UNIT}\.? ?#?[0-9A-Za-z]{{1,5}},? ?){{0,3}}(?:no\.? ?|#|{_UNIT}\.? )?$",
    re.IGNORECASE,
)
_POSTCODE = (
    r"(?:,? ?(?:[A-Z]{2},? )?[0-9]{5}(?:-[0-9]{4})?(?![-0-9A-Za-z])"  # IL 62704
    r"|,? ?[A-Za-z]{1,2}[0-9][0-9A-Za-z]? ?[0-9][A-Za-z]{2}(?![0-9A-Za-z]))"  # W1D 1AB
)
_WORD = r"[A-Za-z][A-Za-z'’-]{1,20}"
_NOT_TOWN = (
    "(?!(?:please|thanks?|cheers|regards|hi|hello|dear|i|my|we|you|he|she|they|it|its|the|this|that|these|and|but|or|so|"
    "if|when|is|are|was|can|could|would|will|do|does|not|no|yes|call|tel|phone|mobile|email|ok|okay|sorry|also|just|"
    "send|leave)(?![a-z]))"
)
_RIGHT = re.compile(
    rf"(?:,? ?(?:#|(?i:{_UNIT})\.? ?#?)[0-9A-Za-z]{{1,5}}(?![0-9A-Za-z]))?"
    rf"(?:(?:,? ?{_WORD}){{0,3}}{_POSTCODE}"
    rf"|(?:, ?(?i:{_NOT_TOWN})(?=[A-Z]){_WORD}(?: (?i:{_NOT_TOWN})(?=[A-Z]){_WORD}){{0,2}}){{0,4}}(?:{_POSTCODE})?)"
)
_LEAD_IN = re.compile(r"(?:(?<![a-z])(?:at|to|on|is|near|address|live[sd]?|home)|[:(]) *$", re.IGNORECASE)
_MEASURE = re.compile(
    "[gtm]b|usb|flash|power|hard|disk|ssd|inch|inches|ft|feet|foot|[cmk]m|met(?:er|re)s?|miles?|yard|kg|lbs?|oz|pieces?|"
    "packs?|pcs|players?|stars?|sets?|pairs?|size|items|times|percent|years?|months?|weeks?|days?|hours?|minutes?|mins?|"
    "people|way|lane",
    re.IGNORECASE,
)
_FUNCTION_WORD = re.compile(
    "the|an?|in|of|on|off|at|to|from|by|for|with|and|or|but|my|your|his|her|our|this|that|down|up|along|across|over|is|"
    "was|are|it|more|than"
)


def _english(text: str) -> Iterator[tuple[int, int]]:
    for match in _STREET.finditer(text):
        right = _end(text, match.end())
        if _is_street(match, found_more=right > match.end()):
            left = _LEFT.search(text[max(0, match.start() - 60) : match.start()])
            yield match.start() - (len(left.group()) if left else 0), right
    for box in _PO_BOX.finditer(text):
        yield box.start(), _end(text, box.end())


def _end(text: str, street_end: int) -> int:
    match = _RIGHT.match(text, street_end)
    return match.end() if match else street_end


def _is_street(match: re.Match[str], found_more: bool) -> bool:
    words, suffix = match[1].split(), match[2]
    if any(_MEASURE.fullmatch(word.rstrip(".")) or _FUNCTION_WORD.fullmatch(word) for word in words):
        return False
    capitals = not any(word[0].islower() for word in (*words, suffix))
    sure = re.fullmatch(_SURE_SUFFIX, suffix, re.IGNORECASE) is not None
    if not capitals and (not sure or len(words) > 2):
        return False
    if (capitals and sure) or found_more:
        return True
    text, start, end = match.string, match.start(), match.end()
    return text[end : end + 1] in ("", ",", ".", ";", "\n") or bool(_LEAD_IN.search(text[max(0, start - 12) : start]))


# --- Chinese: [浙江省海州市临江区]幸福路88号[3栋2单元502室], 阳光小区3号楼502室, 3栋502室

_HAN = "[\u4e00-\u9fff]"
_NUM = "(?:[0-9]{1,5}|[一二三四五六七八九十百零〇]{1,5})"
_DOOR = "(?:[0-9A-Za-z]{1,5}(?:-[0-9A-Za-z]{1,5}){0,2}|[一二三四五六七八九十百零〇]{1,4})"
_ESTATE = "(?:小区|花园|公寓|家园|新村|花苑|苑|大厦|广场|公馆|山庄|别墅|宿舍|社区|园区|华府|名城|学校|大学|学院|医院)"
_NOT_GOODS = "(?!色|码|线|店|柜|电池|链接)"  # 2号色, 5号电池
_PART = (
    f"(?:(?:-?{_DOOR}(?:号楼|号院|号|栋|幢|座|塔|单元|楼|层|室|房|户|门(?!口)|弄|院)"
    f"|[ ,]{{1,2}}[0-9A-Za-z]{{1,5}}(?:号楼|号院|栋|幢|座|单元|楼|层|室)){_NOT_GOODS})"
)
_ROOM = "(?:(?<=[栋幢座元楼门])[ -]?[0-9]{3,4}(?![0-9元块件个斤天年月.]))"
_ANCHOR = re.compile(
    f"(?P<road>(?:路|街|大道|街道|巷|弄|胡同|村|镇)(?:{_NUM}(?:组|队|社))? ?"
    f"(?:[甲乙丙]?{_NUM}(?:[-之][0-9]{{1,4}})?(?:号楼|号院|号)|[0-9]{{1,4}}弄){_NOT_GOODS})"
    f"|(?P<estate>(?:{_ESTATE}|(?<={_HAN}{{2}})(?<![家这那哪店院手屋])里(?={_DOOR}(?:号楼|栋)))"
    f"(?:{_NUM}期)? ?{_DOOR}(?:号楼|栋|幢|座|单元))"
    f"|(?<![0-9A-Za-z])[0-9]{{1,3}}(?:栋|幢|号楼)(?=-?{_DOOR}(?:单元|室|房|户)|{_ROOM})"
)
# What people write before an address. Chosen not to occur in place names: 谢 alone would cut 谢岗镇, 发 alone 发展路.
_BEFORE = re.compile(
    "我们|你们|他们|咱们|我家|你家|她家|他家|我公司|公司|我|你好|您好|你|您|他|她|的|了|吗|呢|吧|啊|呀|哦|嗯|请|谢谢|麻烦|帮|忙|就|这|那个|那边|"
    "怎|是|在|到|给|把|被|跟|也|(?<!成)都|要|想|说|买|改成|换成|改为|换为|写成|收件人|收货|收|寄|送|住|地址为|地址|位于|发(?!展|达|祥)|"
    "退回|发回|邮回|有|楼下|楼上|旁边|对面|附近|前面|后面|里面|边上|去|(?<!解)放|写|单位|[爸妈爷奶姐哥弟妹叔姨舅婆]家|邮到|至于|送至|寄至|发至|派至|快递|电话|手机|号码|单号|订单|号(?!路|街)"
)
_ADMIN = "省市区县镇乡道旗州盟村"
_PROVINCE = re.compile(
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|"
    "内蒙古|广西|西藏|宁夏|新疆"
)
_NOT_ROAD = re.compile("[线电思套半一走迷铁网马水公门出]路|[逛上]街")
# Right of a house number: an estate or tower by name, if a building in it follows, then buildings, floors and rooms.
_NAMED = f"(?:[,(]? ?(?:(?!{_BEFORE.pattern}){_HAN}){{2,10}}?\\)?(?={_DOOR}(?:号楼|栋|幢|座|塔|单元|层|室)))"
_MORE = re.compile(f"{_NAMED}?{_PART}|{_ROOM}")
_LONGEST_SIDE = 30


def _chinese(text: str) -> Iterator[tuple[int, int]]:
    for match in _ANCHOR.finditer(text):
        start = end = match.end()
        while (more := _MORE.match(text, end)) and end - start < _LONGEST_SIDE:
            end = more.end()
        start = match.start()
        if match["road"] or match["estate"]:
            start = _walk_back(text, start)
            # "小区3栋" names no place and "线路2号" is none.
            if (start == match.start() and end == match.end()) or _NOT_ROAD.fullmatch(text, start, match.start() + 1):
                continue
        yield start, end


def _walk_back(text: str, anchor: int) -> int:
    """Where the address begins whose street or estate is named right before `anchor`."""
    start = anchor
    while start > 0 and anchor - start < _LONGEST_SIDE:
        char = text[start - 1]
        # Forms put a space or comma between province, city and district.
        if not ("\u4e00" <= char <= "\u9fff" or (char in " ,·" and start > 1 and text[start - 2] in _ADMIN)):
            break
        start -= 1
    for cut in _BEFORE.finditer(text, start, anchor):
        start = cut.end()
    if province := _PROVINCE.search(text, start, anchor):
        return province.start()
    return start
