"""Labelled texts with personal data in them, and texts that only look so: made by faker and templates.

Templates are in two halves: the recognisers were tuned while looking at the first alone, and figures are of the second.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faker import Faker


@dataclass(frozen=True)
class Case:
    """A text, and the (kind, value) pairs that stand in it; none in a tricky negative."""

    text: str
    items: tuple[tuple[str, str], ...]


def cases(count: int, half: str, seed: int) -> list[Case]:
    """So many cases of the templates of a half ("tuning" or "test"), a third of them without personal data."""
    dice = random.Random(f"{seed} {half}")  # noqa: S311
    makers = _Makers(dice, seed)
    at = 0 if half == "tuning" else 1
    wanted = [(kind, template) for kind, halves in TEMPLATES.items() for template in halves[at]]
    found = []
    for number in range(count):
        if number % 3 == 2:
            found.append(Case(_plain(dice.choice(NEGATIVES[at]), dice), ()))
            continue
        kind, template = wanted[dice.randrange(len(wanted))]
        value = makers.make(kind, _is_chinese(template))
        if "{" not in template:
            raise ValueError(template)
        found.append(Case(template.replace("{}", value), ((kind, value),)))
    return found


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= c <= "\u9fff" for c in text)


class _Makers:
    def __init__(self, dice: random.Random, seed: int) -> None:
        self._dice = dice
        self._fakes = {"zh": Faker("zh_CN"), "gb": Faker("en_GB"), "us": Faker("en_US")}
        for fake in self._fakes.values():
            fake.seed_instance(seed)

    def make(self, kind: str, chinese: bool) -> str:
        made: str = getattr(self, kind)(chinese)
        return self._wide(made) if chinese and kind in WIDE and self._dice.random() < 0.1 else made

    def _wide(self, text: str) -> str:
        return "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in text)

    def _some(self, pattern: str) -> str:
        return "".join(
            str(self._dice.randrange(10))
            if c == "#"
            else self._dice.choice("ABCDEFGHJKLMNPQRSTUVWXYZ")
            if c == "?"
            else c
            for c in pattern
        )

    def email(self, chinese: bool) -> str:
        fake = self._fakes["zh" if chinese else "us"]
        return str(
            self._dice.choice([fake.ascii_free_email(), fake.ascii_company_email(), f"{self._some('########')}@qq.com"])
        )

    def phone(self, chinese: bool) -> str:
        if chinese:
            n = self._fakes["zh"].phone_number()
            return str(
                self._dice.choice(
                    [
                        n,
                        f"{n[:3]}-{n[3:7]}-{n[7:]}",
                        f"{n[:3]} {n[3:7]} {n[7:]}",
                        f"+86 {n}",
                        self._some("0571-8#######"),
                        self._some("010-6#######"),
                    ]
                )
            )
        return str(
            self._dice.choice(
                [
                    self._some("(415) 555-01##"),
                    self._some("212-555-01##"),
                    self._some("+44 7700 900###"),
                    self._some("07700 900###"),
                    self._some("020 7946 0###"),
                    self._some("+1 650-253-00##"),
                ]
            )
        )

    def resident_id(self, chinese: bool) -> str:
        n = self._fakes["zh"].ssn()
        return str(self._dice.choice([n, f"{n[:6]} {n[6:14]} {n[14:]}"]))

    def bank_card(self, chinese: bool) -> str:
        n = self._dice.choice(
            [
                self._fakes["us"].credit_card_number("visa16"),
                self._fakes["us"].credit_card_number("mastercard"),
                self._union_pay(),
            ]
        )
        return str(self._dice.choice([n, " ".join(n[i : i + 4] for i in range(0, len(n), 4))]))

    def _union_pay(self) -> str:
        from stdnum import luhn

        body = self._some("622202############")
        return body + luhn.calc_check_digit(body)

    def iban(self, chinese: bool) -> str:
        n = self._dice.choice([self._fakes["gb"].iban(), Faker("de_DE").iban()])
        return str(self._dice.choice([n, " ".join(n[i : i + 4] for i in range(0, len(n), 4))]))

    def passport(self, chinese: bool) -> str:
        return self._some(
            self._dice.choice(["E########", "EA#######", "G########"] if chinese else ["#########", "?########"])
        )

    def plate(self, chinese: bool) -> str:
        if not chinese:
            return str(
                self._dice.choice(
                    [self._fakes["gb"].license_plate(), self._some("???-####"), self._some("#??? ###").replace(" ", "")]
                )
            )
        head = self._dice.choice("京沪粤浙苏鲁川渝") + self._dice.choice("ABCDEFGH")
        return (
            head
            + self._dice.choice(["", "·", " "])
            + self._some(self._dice.choice(["#?###", "?####", "D#####", "##?##", "F#?###"]))
        )

    def person(self, chinese: bool) -> str:
        fake = self._fakes["zh" if chinese else self._dice.choice(["gb", "us"])]
        return str(fake.name()) if chinese else f"{fake.first_name()} {fake.last_name()}"

    def address(self, chinese: bool) -> str:
        if chinese:
            fake = self._fakes["zh"]
            city = self._dice.choice(
                [
                    "浙江省杭州市西湖区",
                    "广东省深圳市南山区",
                    "北京市朝阳区",
                    "四川省成都市武侯区",
                    "上海市浦东新区",
                    "江苏省南京市鼓楼区",
                ]
            )
            road = self._dice.choice(
                ["文三路", "科技园南路", "建国路", "人民南路", "世纪大道", "中山北路", "幸福街", "学院路"]
            )
            tail = self._dice.choice(
                [
                    "",
                    f"{self._dice.randint(1, 30)}栋{self._dice.randint(1, 4)}单元{self._dice.randint(101, 2405)}室",
                    f"{self._dice.randint(1, 20)}号楼{self._dice.randint(101, 999)}",
                ]
            )
            return f"{city}{road}{fake.random_int(1, 999)}号{tail}"
        street = self._dice.choice(
            [
                "High Street",
                "Station Road",
                "Church Lane",
                "Maple Avenue",
                "Oxford Street",
                "Park Road",
                "Sunset Boulevard",
            ]
        )
        place = self._dice.choice(
            [", London SW1A 1AA", ", Leeds LS1 4DY", ", Springfield, IL 62704", ", Austin, TX 78701", ""]
        )
        return self._dice.choice(["", "Flat 3, ", ""]) + f"{self._dice.randint(1, 240)} {street}{place}"

    def order_no(self, chinese: bool) -> str:
        return self._some(
            self._dice.choice(
                ["SF#############", "YT#############", "20251012########", "#########01234"]
                if chinese
                else ["114-#######-#######", "1Z###?####0#######", "ORD-########", "########01"]
            )
        )

    def chat_id(self, chinese: bool) -> str:
        return str(
            self._dice.choice(
                [
                    self._fakes["us"].user_name() + self._some("##"),
                    "wxid_" + self._some("?#?#?##").lower(),
                    self._some("1########"),
                    self._some("2#########"),
                ]
            )
        )

    def ip(self, chinese: bool) -> str:
        fake = self._fakes["us"]
        return str(self._dice.choice([fake.ipv4_private(), fake.ipv4_public(), fake.ipv6()]))

    def private_link(self, chinese: bool) -> str:
        token = uuid.UUID(int=self._dice.getrandbits(128)).hex
        return str(
            self._dice.choice(
                [
                    f"https://shop.example.com/reset?token={token}",
                    f"https://example.org/login?next=/cart&session_id={token[:24]}",
                    f"http://pay.example.cn/o?uid={self._some('########')}&sign={token[:16]}",
                    f"https://share.example.com/i/{token}",
                    f"https://example.com/unsubscribe?email={self._fakes['us'].user_name()}%40mail.example",
                ]
            )
        )


WIDE = {"phone", "resident_id", "bank_card"}
# kind -> (templates looked at while tuning, templates that figures are of)
TEMPLATES: dict[str, tuple[list[str], list[str]]] = {
    "email": (
        ["my mail is {}", "please write to {}.", "邮箱{}谢谢", "发票发到{}，急", "contact: {} asap"],
        [
            "You can reach me under {}, thank you",
            "invoice to {}!",
            "把说明书发我邮箱：{}",
            "我的邮件地址是{}。",
            "e-mail({})",
        ],
    ),
    "phone": (
        ["call me on {}", "电话{}", "我手机号{}，打这个", "text {} before delivery", "打{}没人接"],
        [
            "The driver should ring {} first",
            "my number: {}",
            "快递员请拨{}",
            "联系方式：{}（下午在）",
            "换个号码{}也行",
        ],
    ),
    "resident_id": (
        ["身份证{}", "身份证号是{}，实名用", "证件号码：{}"],
        ["海关要的身份证号码{}已经填了", "清关资料：{}，请查收", "我的证件{}"],
    ),
    "bank_card": (
        ["卡号{}", "my card {} was charged twice", "退款到{}这张卡", "card number {}"],
        ["钱还没退到我的银行卡{}里", "paid with {} yesterday", "储蓄卡：{}，工行", "It was billed to {} again"],
    ),
    "iban": (
        ["IBAN {}", "refund to {} please", "汇款账号{}"],
        ["my bank account is {}, thanks", "please transfer to {}", "请退到{}这个账户"],
    ),
    "passport": (
        ["护照号{}", "passport number {}", "我的护照是{}"],
        ["Passport no. {} for customs", "清关用的护照号码：{}", "passport: {}"],
    ),
    "plate": (
        ["车牌{}", "我的车是{}", "my licence plate is {}", "number plate {}"],
        ["快递柜旁边那辆{}就是我", "车牌号：{}，贴膜", "registration plate: {}", "the plate number is {}, blue van"],
    ),
    "person": (
        [
            "收件人：{}",
            "我叫{}，上周买的",
            "联系人{}",
            "my name is {} and I ordered",
            "Dear {},",
            "{}先生收",
            "Regards, {}",
        ],
        [
            "姓名：{}，麻烦改一下",
            "麻烦转交{}女士",
            "请写{}收",
            "收货人是{}",
            "It was delivered to {} next door",
            "Kind regards, {}",
            "Mr {} signed for it",
            "Hi, my name is {}.",
        ],
    ),
    "address": (
        ["送到{}", "my address is {}", "地址：{}", "ship it to {} please"],
        ["麻烦改寄{}，谢谢", "I moved to {}", "新地址是{}", "Please deliver to {}.", "放{}门口就行"],
    ),
    "order_no": (
        ["订单号{}", "order number {}", "单号{}没动", "tracking no {}"],
        ["我的订单{}还没发货", "Where is my order {}?", "快递单号：{}", "parcel {} is lost", "运单{}显示签收"],
    ),
    "chat_id": (
        ["加我微信{}", "微信号：{}", "QQ {}", "my wechat id is {}"],
        ["有问题加微信：{}", "我的QQ号是{}", "WeChat: {}", "vx {} 聊", "扣扣{}"],
    ),
    "ip": (
        ["login from {}", "ip地址{}", "the camera is at {}"],
        ["摄像头的地址是{}连不上", "Router shows {} offline", "IP：{}"],
    ),
    "private_link": (
        ["see {}", "链接{} 打不开", "reset link: {}"],
        ["I got this link {} and it fails", "点了{} 没反应", "url is {}"],
    ),
}
NEGATIVES: tuple[list[str], list[str]] = (
    [
        "iPhone {d2} Pro {d3}GB",
        "size {d2}x{d2}x{d2} cm",
        "ISBN 978-{d1}-{d3}-{d5}-{d1}",
        "型号XH-{d4}B",
        "¥{d3}.{d2}",
        "battery {d5}mAh, {d2}W",
        "版本 2.{d1}.{d1}.{d2}",
        "李宁跑步鞋{d2}码",
        "John Lewis kettle {d1}.{d1}L",
        "第{d2}章",
        "EAN 40{d11}",
        "1080p {d2}Hz {d2} inch",
        "白色{d3}ml保温杯",
        "2025年{d1}月{d1}日买的",
        "colour #{d6}",
        "夏季女士凉鞋{d2}码",
        "牛皮女士钱包{d2}卡位",
        "Hello Kitty backpack {d2} cm",
    ],
    [
        "Model WF-{d4}XM{d1} black",
        "货号{d6}",
        "part no {d4}-{d3}",
        "满{d3}减{d2}",
        "resolution {d4}x{d4}",
        "firmware v{d1}.{d1}.{d1}.{d2}",
        "Dear seller, great {d2} piece set",
        "万师傅修鞋刀{d1}把装",
        "周大福金饰{d2}克",
        "王小卤鸡爪{d3}g",
        "Dr. Martens boots size {d1}",
        "Jack Wolfskin jacket",
        "Hi there, is it {d2} inch?",
        "客户非常满意，买了{d1}件",
        "商品编码{d13}",
        "{d2}-{d2} cm waist, {d1}XL",
        "100% cotton, {d3} threads",
        "https://shop.example.com/p/{d5}?page={d1}&sort=price",
        "12:{d2}:{d2} 下单",
        "7.5*{d2}*{d2}mm 螺丝",
        "flight CA{d4}",
        "Batch {d4}/{d2}",
        "路由器AX{d4}千兆",
        "5号电池{d2}节",
        "微信支付{d2}元",
        "qq糖{d2}g",
        "vx200 charger {d2}W",
        "收到货了，老师用着好",
        "名字好听，颜色白",
        "ships to UK in {d1} days",
        "高跟女士短靴{d2}码",
        "温柔女士香水{d2}ml",
        "Dr. Brown's bottle {d3} ml",
        "Hi Vis waterproof jacket {d1}XL",
    ],
)


def _plain(template: str, dice: random.Random) -> str:
    text = template
    for size in range(13, 0, -1):
        while f"{{d{size}}}" in text:
            number = str(dice.randrange(1, 10)) + "".join(str(dice.randrange(10)) for _ in range(size - 1))
            text = text.replace(f"{{d{size}}}", number, 1)
    return text


Maker = Callable[[bool], Any]
