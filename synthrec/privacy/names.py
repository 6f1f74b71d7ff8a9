"""Names of people, where the text says that it is one: a bare name is told from a brand by its surroundings alone.

Chinese: a surname of the common ones and one or two characters, after a word such as 收件人 or before one such as 先生.
English: capitalised words after "my name is", "Mr", "Dear", "Regards," and the like. A shop whose texts hold names with
nothing around them sets `privacy.ner` to a model of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator


def _any(*words: str) -> str:
    """A pattern of any of the words; longer ones first."""
    return "|".join(sorted((one for some in words for one in some.split()), key=len, reverse=True))


# The commonest of the mainland's surnames, which some 97 people in 100 have; then those of two characters.
_ONE = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟"
    "姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙黎史陶贺顾毛郝龚邵万钱覃武戴莫孔向汤温康施文牛樊葛邢安"
    "齐易乔伍庞颜倪庄聂章鲁岳翟申耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单裴霍成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙"
    "鲍华喻祁房蒲滕屈饶解牟艾尤时阳穆农古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞"
    "姬师仇栾常洪萧严阎詹傅殷鞠伊谈鹿卓涂蔺厉狄鄢冼惠赖展禹隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝"
)
_TWO = _any("欧阳 上官 司马 诸葛 东方 皇甫 尉迟 公孙 慕容 令狐 司徒 长孙 宇文 南宫 夏侯 端木 西门 百里 独孤")
# No character of a given name: particles, pronouns, and what sentences go on with.
_NEVER = "的了在是我你他她它们这那就也都和与或吗呢吧啊哦呀请电联手收地住号先女老把给被让到从很太最不没有买卖发货件"
_GIVEN = rf"(?![{_NEVER}])[\u4e00-\u9fff]"
_NAME = f"(?:(?:{_TWO}){_GIVEN}{{1,2}}|[{_ONE}]{_GIVEN}{{1,2}})"
_ROLES = _any(
    "收件 收货 联系 寄件 发件 签收 购买 经办 持卡 开户 提货 取件 负责 委托 订货 下单 预订 登记 投诉 申请",
    "订购 代收",
)
_CALLED = _any("老公 老婆 爸爸 妈妈 儿子 女儿 朋友 同事 同学")
_CUSTOMER = _any("客户 顾客 买家 会员 用户 乘客 旅客 业主 患者")
_BEFORE = re.compile(
    rf"(?:(?<!不)我叫|(?:{_ROLES})人|姓名|名字(?:是|叫|为)|户名|本人(?=[是叫:])"
    rf"|(?:{_CUSTOMER})(?:名|叫|是|:)|署名|开票给|抬头写"
    rf"|(?:{_CALLED})叫|[你您]好[,，]?我是)[\s是叫为:写填,(「\"']{{0,4}}({_NAME})"
)
_TITLE = _any("太太 老师 经理 师傅 医生 教授 同学 阿姨 大哥 大姐 代收 签收 亲启 本人")
# In a shop 女士 is as often whom a thing is made for (夏季女士凉鞋): of a person what follows says what she does.
_LADY = _any("先生 女士 小姐")
_DOES = (
    r"$|[^\u4e00-\u9fff]|[你您的收来说在已要想问反投订签住退换申联是对把被给让有没等取拿寄付留代亲确也都就会能可刚昨今将表称认]"
    r"|打(?=[电来])|电(?=[话联])|手机号|下(?=[单午])|购(?=[买了])|买(?=[了的过])|提(?=[供出货交])|本人|家[里中]|不[在想要满]"
)
_AFTER = re.compile(rf"(?<![感多谢道致])({_NAME})(?=[( ]?(?:{_TITLE}|(?:{_LADY})(?={_DOES})|收(?=$|[\s,.!。]|谢谢)))")
_NOT_NAME = re.compile(
    "(?:"
    + _any(
        "高级 白色 黄色 金色 蓝色 万能 安全 全部 成功 时间 方便 明天 关于 应该 解决 单位 马上 任何 连接",
        "夏季 夏天 夏日 牛皮 牛仔 时尚 时髦 时装 温柔 温暖 温馨 黄金 高跟 高端 高档 高腰 高贵 包邮 包包 舒适 舒服 简约",
        "成熟 韩版 韩式 白领 金属 毛呢 毛衣 单肩 单鞋 连衣 连帽 连体 古典 古风 华丽 华贵 全棉 商务 宫廷 文艺 明星 石英",
        "项目 商品 商家 商城 于是 程序 章程 文件 温度 石头 向大家 和大家 应该说 任意 成年 万一 周一 周末 周日 时候",
    )
    + ")$"
)

_WORD = r"(?:Mc[A-Z][a-z]+|O['’][A-Z][a-z]+|[A-Z][a-z]+(?:['’-][A-Z]?[a-z]+)?|[A-Z]\.)"
_EN_NAME = rf"{_WORD}(?: {_WORD}){{0,3}}"
_NOBODY = frozenset(
    """
    sir madam customer customers team all there everyone everybody friend friends santa seller shop store support
    service god mum mom dad mother father grandma grandpa folks guys buyer buyers manager admin valued both daughter son
    husband wife sister brother again great good lovely nice perfect excellent happy the this that it my our your a an
    and in on at for with from i we you he she they not no yes very so just hope please thanks thank best kind regards
    """.split()  # noqa: SIM905
)
# What shops sell under a doctor's name, a mister's or a greeting.
_BRANDS = frozenset(
    """
    martens pepper scholl seuss oetker bronner brown kipling muscle coffee clean dre teal jart meyer potato beast bean
    heater dior kitty bello fresh neighbor vis viz selfridge sixty jessie men
    """.split()  # noqa: SIM905
)
_EN_INTRO = "|".join(
    [
        r"my (?:full |real |last |first )?name(?: is|['’]s|:)",
        r"names?(?:d| is)? ?[:=]",
        r"(?:is|am|was) called",
        r"the name(?: on (?:it|the order|the card|the account))? (?:is|of|was)",
        r"(?:recipient|account holder|card ?holder|passenger) ?(?:is|:)",
        r"(?:addressee|consignee|customer(?: name)?|buyer|contact(?: person)?|attention|attn\.?) ?:",
        r"attn|c/o|signed (?:for )?by|signed,|(?:kind |best |warm )?regards,|sincerely,|yours,|cheers,",
        r"(?:in|under) the name(?: of)?|spoke (?:to|with)|ask for|served by",
    ]
)
_EN_TITLE = "mr|mrs|ms|miss|mx|dr|prof"
_EN_BEFORE = re.compile(
    rf"(?<![A-Za-z])(?:(?i:{_EN_INTRO})|(?i:dear|hello|hi|{_EN_TITLE})\.?)[\s,]{{1,2}}"
    rf"(?:(?i:{_EN_TITLE})\.? )?({_EN_NAME})"
)
# To a person or to a place: two words at least, and not the first word of a place's name.
_EN_TO = re.compile(
    r"(?<![A-Za-z])(?i:(?:deliver(?:ed)?|ship(?:ped)?|send|sent|addressed) (?:it |this |them )?to) "
    r"(?!(?:New|San|Los|Las|Hong|United|Great|North|South|East|West|Saint|St|The|My|Our|Your) )"
    rf"({_WORD}(?: {_WORD}){{1,3}})"
)
_AND = re.compile(rf" (?:and|&) ({_EN_NAME})")

_HAN_MARKERS = _any(
    "我叫 我是 姓名 名字 户名 署名 本人 抬头 开票 叫 收 件人 货人 系人 买人 办人 卡人 单人 取人 订人 责人",
    "托人 请人 诉人 记人 户人 购人 先生 女士 小姐 太太 老师 经理 师傅 医生 教授 同学 阿姨 大哥 大姐 亲启",
    _CUSTOMER.replace("|", " "),
)
_MARKER = re.compile(
    rf"{_HAN_MARKERS}|(?i:name|dear|hello|\bhi\b|\bm(?:r|rs|s|iss|x)\b|\bdr\b|\bprof\b|called|recipient|addressee|holder|"
    r"passenger|consignee|deliver|ship|sen[dt]|addressed|att|contact|c/o|signed|regards|sincerely|yours,|cheers|customer|"
    r"buyer|spoke|ask for|served)"
)


def names(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of every name of a person that the words around it announce, in the folded `text`."""
    if not text.isascii():
        for pattern in (_BEFORE, _AFTER):
            for match in pattern.finditer(text):
                if not _NOT_NAME.search(match[1]):
                    yield match.span(1)
    for pattern in (_EN_BEFORE, _EN_TO):
        for match in pattern.finditer(text):
            yield from _people(text, match)


def may_name(text: str) -> bool:
    """Whether `names` can find anything: a quick look."""
    return _MARKER.search(text) is not None


def _people(text: str, match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The name of a match without ordinary words around it, and those joined to it by "and"."""
    found: re.Match[str] | None = match
    while found:
        start, end = _trimmed(found[1], found.start(1))
        if start == end:
            return
        yield start, end
        found = _AND.match(text, found.end(1)) if end == found.end(1) else None


def _trimmed(name: str, start: int) -> tuple[int, int]:
    words = name.split(" ")
    if re.split("['’]", words[0].lower())[0].removesuffix("s") in _BRANDS or words[0].lower() in _BRANDS:
        return start, start
    kept = next((n for n, word in enumerate(words) if word.lower() in _NOBODY), len(words))
    return start, start + len(" ".join(words[:kept]))
